"""Multipliers that need no tuning: `dual.rule=auto`.

    e_c = clip((v_c + margin) / r_c, −1, 1)              violation in its unit
    I_c ← clip(I_c + κ_c e_c, 0, z_max)                  integral part, with anti-windup
    z_c = clip(I_c + κ_p e_c, 0, z_max)                  and a proportional part
    λ_c = s_c (e^{z_c} − 1)                              exponential in z_c

The unit s_c of a multiplier is the share w_g of its group in the mean loss: the weight of group g
is then w_g + λ_g = w_g e^{z_g}, and z_g is how much its logits are to gain on those of others. The
unit r_c of a violation is t_g (1 − t_g), what an accuracy gains where its logit rises by 1, at the
accuracy t_g that meets the constraint. So neither the scale of the loss nor shares enter; time is
counted in steps, as a network answers in steps. In the batches that have a sample of a group, its
multiplier is divided by their share among all batches, so that it acts in full on average. The
integral part is faster where a group feels less of its multiplier at once, as it is not a class
but only a part of one,

    κ_c = κ clip(β_c (3 − |I_c|) / 2, 1, β_c) away from 0, κ β_c back towards it,
    β_c = min(1 / √directness, 4)

A large weight that does not help yet grows slowly, and only up to e times the share before it is
seen to help, so that no group takes more from the others than it can use: see `response`. z_max
itself comes down where the network loses accuracy over it, see `ceiling`. A constraint that does
not name its units has them measured, see `measured_units`.

The weights of all groups are scaled to a total of their own (see `step_length`) in place of
1 + Σ λ: a group is given weight by taking it from others, and multipliers that grow do not lengthen
the steps without end. See docs/method.md, equations (38) to (42).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.constraints.base import ConstraintValues, as_floats
from bap_jax.errors import UserError
from bap_jax.lagrangian import ceiling, measured_units, response, step_length
from bap_jax.lagrangian.base import DualState, Formulation, sum_of_sizes
from bap_jax.lagrangian.ceiling import Ceiling
from bap_jax.lagrangian.overall_term import check_overall_term, linear_term
from bap_jax.lagrangian.step_length import StepLength
from bap_jax.types import Array

_PROPORTIONAL = 0.6  # κ_p
_INTEGRAL = 0.02  # κ, per step
_QUICKEST = 4.0  # β_c, at most
_QUICK_UNTIL = 1.0  # an integral up to which κ β_c holds also on the way up
_TINY = 1e-30
_MARGIN = 0.75  # of the tolerance, at most
LONGEST_STEP = 15.0  # W_max


class AutoState(NamedTuple):
    """What the multipliers remember: 8 bytes a constraint, and 37 more where units are measured.

    Attributes:
      integral: `(constraint,)` I_c.
      largest: `(constraint,)` largest violation so far, see `response`.
      ceiling: z_max of the set of constraints.
      length: of the weights' steps.
      measured: units that the constraints do not name; `()` if all are named.
      known: `()` bool, whether the constraints name their units.
    """

    integral: Array
    largest: Array
    ceiling: Ceiling
    length: StepLength
    measured: Any
    known: Array


class Units(NamedTuple):
    """In what a step counts.

    Attributes:
      multiplier: `(constraint,)` s_c.
      violation: `(constraint,)` r_c.
      gain: `(constraint,)` or `()` κ per step.
      quickness: `(constraint,)` or `()` β_c ≥ 1.
      is_named: `(constraint,)` or `()` bool, whether the constraint names its unit.
    """

    multiplier: Array
    violation: Array
    gain: Array | float
    quickness: Array | float
    is_named: Array | bool


def auto(
    *,
    bound: Array | float = math.inf,
    overall_term: str = "detached",
    longest: Array | float = LONGEST_STEP,
    named_units: bool = False,
) -> Formulation:
    """Multipliers that find their size and their speed by themselves.

    Constraints in `violation_mask` and `proxy_mask` move. A group that is not in the batch keeps
    its multiplier, however long, which counts for as much more in the batches that it is in
    (`ConstraintValues.presence`). `unit` and `reach` give the units; where they are 0, they are
    measured, which needs `objective`, as every scheme fills it in. With `directness` and `accuracy`
    a constraint may also say how fast and how far its multipliers may go.

    The multipliers aim at `violation ≤ −min(¾ tolerance, deviation)`: what is estimated scatters,
    and the constraint is to hold of the network itself.

    Args:
      bound: largest |λ|, `()` or `(constraint,)`.
      overall_term: see the module `overall_term`.
      longest: W_max ≥ 1, the most that violated constraints may lengthen the weights' steps.
      named_units: the constraints name `unit` and `reach`, so that nothing has to be measured.

    Raises:
      UserError: `overall_term` is unknown; or, once it is called, `named_units` and they do not.

    Example:
      >>> from bap_jax.constraints import constraint_values
      >>> formulation = auto()
      >>> values = constraint_values(jnp.array([0.1, -0.1]), unit=jnp.array([0.5, 0.5]), reach=0.25)
      >>> dual = formulation.update_multipliers(values, formulation.init(2))
      >>> [round(float(x), 3) for x in dual.multipliers]
      [0.141, 0.0]
    """
    check_overall_term(overall_term)
    # Logarithms of 10,000 bounds take a while; of units that are named no multiplier gets huge.
    is_free = named_units and isinstance(bound, int | float) and math.isinf(bound)

    def init(size):
        return DualState(jnp.zeros((size,)), _start(size, named_units))

    def update_multipliers(values, dual):
        values = _own_units(values)
        memory: AutoState = dual.memory
        fresh = values.violation_mask & values.proxy_mask
        measured, units = _measured(memory, values, fresh, named_units)
        per_unit = 1 / jnp.maximum(units.violation, _TINY)
        error = jnp.where(fresh, _error(values, per_unit), 0)
        most = jnp.minimum(bound, measured_units.HUGE)
        largest, highest, exponent = _exponents(memory, values, units, per_unit, fresh)
        upper = exponent if is_free else _within_bound(exponent, most, units)
        lower = jnp.where(values.equality, -_within_lower_bound(exponent, most, units), 0.0)
        gain = _integral_gain(values, units, memory.integral, error)
        integral = jnp.clip(memory.integral + gain * error, lower, upper)
        integral = jnp.where(fresh, integral, memory.integral)
        exponent = jnp.clip(integral + _PROPORTIONAL * error, lower, upper)
        multipliers = jnp.clip(_multipliers(exponent, units), -most, most)
        length, active = _length(memory.length, values, error, fresh, longest, highest)
        names_units = active if named_units else jnp.any(fresh & units.is_named)
        known = memory.known | names_units
        state = AutoState(integral, largest, highest, length, measured, known)
        return DualState(jnp.where(fresh, multipliers, dual.multipliers), state)

    def penalty_term(values, dual):
        presence = jnp.maximum(_own_units(values).presence, _TINY)
        in_full = jnp.clip(dual.multipliers / presence, -measured_units.HUGE, measured_units.HUGE)
        return linear_term(values, in_full, overall_term)

    return Formulation(
        init,
        update_multipliers,
        penalty_term,
        _total_weight,
        anticipates=True,
        added_weight=_added_weight,
    )


def _total_weight(dual: DualState) -> Array:
    memory: AutoState = dual.memory
    return jnp.where(memory.known, jnp.exp(memory.length.log_weight), jnp.inf)


def _added_weight(dual: DualState) -> Array:
    """Σ λ with its signs: a multiplier below 0 takes weight away."""
    return jnp.where(dual.memory.known, dual.multipliers.sum(), sum_of_sizes(dual))


def _start(size, named_units) -> AutoState:
    return AutoState(
        integral=jnp.zeros((size,)),
        largest=response.init(size),
        ceiling=ceiling.init(),
        length=step_length.init(),
        measured=() if named_units else measured_units.init(size),
        known=jnp.bool_(False),
    )


def _measured(memory: AutoState, values, fresh, named_units):
    """What was seen of units that are not named, and the units of this step."""
    if named_units:
        return memory.measured, _named_units(values)
    measured = measured_units.measure(memory.measured, values, fresh)
    return measured, _units(values, measured)


def _exponents(memory: AutoState, values, units, per_unit, fresh):
    """Largest violations so far, the ceiling, and `(constraint,)` how large |z_c| may be."""
    violation = _size(values, jax.lax.stop_gradient(as_floats(values.violation)))
    largest = response.update(memory.largest, violation, fresh)
    earned = response.highest_exponent(largest, violation, per_unit)
    if units.is_named is not True:
        earned = jnp.where(units.is_named, earned, jnp.inf)
    size = _size(values, memory.integral)
    accuracy, deviation = values.accuracy, values.accuracy_deviation
    highest = ceiling.update(memory.ceiling, accuracy, deviation, size, fresh)
    return largest, highest, jnp.minimum(highest.exponent, earned)


def _length(length, values, error, fresh, longest, highest) -> tuple[StepLength, Array]:
    """The length of the weights' steps, and `()` bool, whether any constraint was observed."""
    worst, active = jnp.max(_size(values, error), initial=0), fresh.any()
    loss = jax.lax.stop_gradient(jnp.asarray(values.objective))
    lost = ceiling.lost(highest, values.accuracy, values.accuracy_deviation)
    return step_length.update(length, loss, worst, active, longest, lost), active


def _own_units(values: ConstraintValues) -> ConstraintValues:
    """`values` without units and deviations of another shape than its violations: whoever replaced
    the violations, say by the largest of them, left those of the former constraints behind."""
    shapes = (), jnp.shape(values.violation)
    unknown = {"unit": 0.0, "reach": 0.0, "deviation": 0.0, "directness": 1.0, "presence": 1.0}
    foreign = {
        name: value
        for name, value in unknown.items()
        if jnp.shape(getattr(values, name)) not in shapes
    }
    return values._replace(**foreign)


def _named_units(values):
    units = (values.unit, values.reach)
    if any(isinstance(unit, (int, float)) and unit == 0 for unit in units):
        raise UserError(
            "auto(named_units=True) needs constraints that give `unit` and `reach`; got 0, which "
            "stands for unknown. Leave named_units out: they are then measured."
        )
    return Units(*units, _INTEGRAL, _quickness(values), True)


def _quickness(values):
    """`(constraint,)` or `()` β_c of constraints that name their units."""
    return jax.lax.rsqrt(jnp.clip(jnp.asarray(values.directness, float), 1 / _QUICKEST**2, 1))


def _within_bound(exponent, most, units):
    """z_max, or less where λ_c reaches its bound before."""
    return jnp.minimum(exponent, jnp.log1p(most / jnp.maximum(units.multiplier, _TINY)))


def _within_lower_bound(exponent, most, units):
    """z_max, or less where −λ_c reaches its bound before."""
    share = most / jnp.maximum(units.multiplier, _TINY)
    of_share = jnp.where(share < 1, -jnp.log1p(-jnp.minimum(share, 1 - 1e-6)), jnp.inf)
    return jnp.minimum(exponent, jnp.where(units.is_named, of_share, jnp.log1p(share)))


def _integral_gain(values, units, integral, error):
    """`(constraint,)` κ_c."""
    fading = (1 + _QUICK_UNTIL / 2) - _size(values, integral) / 2
    outward = jnp.clip(units.quickness * fading, 1, units.quickness)
    is_back = jnp.where(values.equality, error * integral, error) < 0
    return units.gain * jnp.where(is_back, units.quickness, outward)


def _size(values, signed):
    """Absolute values; inequalities only have integrals ≥ 0, and errors below 0 do not count."""
    return jnp.where(values.equality, jnp.abs(signed), signed)


def _units(values, measured):
    """Those that the constraints name, and measured ones for the others."""
    is_named = jnp.asarray(values.unit) > 0
    unit = jnp.where(is_named, values.unit, measured_units.unit_of_multipliers(measured))
    reach = measured_units.unit_of_violations(measured)
    reach = jnp.where(jnp.asarray(values.reach) > 0, values.reach, reach)
    gain = jnp.where(is_named, _INTEGRAL, measured_units.integral_gain(measured))
    quickness = jnp.where(is_named, _quickness(values), 1)
    return Units(unit, reach, gain, quickness, is_named)


def _error(values: ConstraintValues, per_unit: Array) -> Array:
    """`(constraint,)` e_c in [−1, 1]."""
    violation, tolerance, deviation, per_unit = jax.lax.stop_gradient(
        (as_floats(values.violation), values.tolerance, values.deviation, per_unit)
    )
    margin = jnp.where(values.equality, 0.0, jnp.clip(_MARGIN * tolerance, 0, deviation))
    return jnp.clip((violation + margin) * per_unit, -1, 1)


def _multipliers(exponent, units):
    """`(constraint,)` λ_c; above −s_c where the unit is a group's share, so that its weight stays
    positive, and odd in z_c where it is measured."""
    if units.is_named is True:
        return units.multiplier * (jnp.exp(exponent) - 1)
    odd = jnp.sign(exponent) * jnp.expm1(jnp.abs(exponent))
    return units.multiplier * jnp.where(units.is_named, jnp.expm1(exponent), odd)
