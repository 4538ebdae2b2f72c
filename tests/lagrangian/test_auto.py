"""Multipliers that need no tuning, by hand: one step, anti-windup, bounds, masks, weights, sets."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.errors import UserError
from bap_jax.lagrangian import ceiling
from bap_jax.lagrangian.ceiling import HIGHEST
from bap_jax.lagrangian.formulations import as_formulation

rule = importlib.import_module("bap_jax.lagrangian.auto")  # its name is also the function's
P, RATE, LARGEST = rule._PROPORTIONAL, rule._INTEGRAL, HIGHEST
INSIDE = rule._MARGIN

UNIT, REACH = np.array([0.7, 0.25, 0.05], np.float32), np.array([0.2, 0.1, 0.02], np.float32)


def observed(violation, **fields):
    """Three constraints that name their units."""
    fields = {"unit": UNIT, "reach": REACH} | fields
    return constraint_values(jnp.broadcast_to(jnp.asarray(violation, jnp.float32), (3,)), **fields)


@functools.partial(jax.jit, static_argnums=2)
def repeated(values, dual, steps, **options):
    """`(step, constraint)` λ, and the last state."""
    formulation = lagrangian.auto(**options)

    def body(dual, _):
        dual = formulation.update_multipliers(values, dual)
        return dual, dual.multipliers

    return jax.lax.scan(body, dual, length=steps)[::-1]


def step(values, dual=None, **options):
    formulation = lagrangian.auto(**options)
    return formulation.update_multipliers(values, formulation.init(3) if dual is None else dual)


def proven():
    """A state before the first step of constraints that are known to respond."""
    dual = lagrangian.auto().init(3)
    return dual._replace(memory=dual.memory._replace(largest=jnp.full(3, 1e3)))


def exponents(errors):
    """z after each step of `errors`."""
    integral, found = 0.0, []
    for error in errors:
        integral = np.clip(integral + RATE * error, 0, LARGEST)
        found.append(np.clip(integral + P * error, 0, LARGEST))
    return np.array(found)


def test_one_step_by_hand():
    violation = np.array([0.04, -0.03, 5.0])
    error = np.array([0.2, -0.3, 1.0])
    z = np.maximum((RATE + P) * error, 0)
    np.testing.assert_allclose(step(observed(violation)).multipliers, UNIT * np.expm1(z), rtol=1e-5)


def test_several_steps_by_hand():
    """Violated, badly violated, satisfied, violated."""
    path, dual = [0.01, 9.0, -0.002, 0.015], None
    z = np.stack([exponents(np.clip(np.divide(path, reach), -1, 1)) for reach in REACH], axis=-1)
    for violation, expected in zip(path, z, strict=True):
        dual = step(observed(violation), dual)
        np.testing.assert_allclose(dual.multipliers, UNIT * np.expm1(expected), rtol=1e-5)


def test_the_weight_of_a_group_grows_by_what_its_violation_is_in_its_unit():
    """Whatever its share, and whatever an accuracy gains: w_g + λ_g = w_g e^z with one z."""
    multipliers, _ = repeated(observed(0.5 * REACH), lagrangian.auto().init(3), 50)
    ratio = (UNIT + multipliers[-1]) / UNIT
    np.testing.assert_allclose(np.log(ratio), 0.5 * P + 50 * 0.5 * RATE, rtol=1e-4)


def test_multipliers_move_faster_where_little_of_them_reaches_the_violation():
    """By 1 / √directness and at most 4; less so where they are large, but for the way down."""
    directness, quickness = np.array([1.0, 0.25, 0.0], np.float32), np.array([1.0, 2.0, 4.0])
    dual, integral = proven(), np.zeros(3)
    for error in [1.0] * 150 + [-0.01] * 20:
        dual = step(observed(error * REACH, directness=directness), dual)
        slowed = np.clip(quickness * (3 - integral) / 2, 1, quickness)
        integral = np.clip(integral + RATE * error * (slowed if error > 0 else quickness), 0, 6)
        z = np.clip(integral + P * error, 0, 6)
        np.testing.assert_allclose(np.log1p(dual.multipliers / UNIT), z, rtol=1e-4)
    assert integral[0] < integral[1] < integral[2] < integral[0] + 1.6


@pytest.mark.parametrize("equality", [False, True])
def test_units_that_are_all_named_need_no_measuring(equality):
    """The form that runs use gives what the general one gives."""
    rng, dual, plain = np.random.default_rng(0), None, None
    for _ in range(30):
        seen = rng.random(3) < 0.8
        values = observed(
            rng.normal(0.1, 0.2, 3), violation_mask=jnp.array(seen), equality=equality
        )
        values = values._replace(objective=rng.random())
        dual, plain = step(values, dual, named_units=True), step(values, plain)
        np.testing.assert_allclose(dual.multipliers, plain.multipliers, rtol=1e-5, atol=1e-7)
        weights = [lagrangian.auto().total_weight(one) for one in (dual, plain)]
        np.testing.assert_allclose(*weights)
    assert dual.memory.measured == () and dual.multipliers.any()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_the_state_keeps_its_types(dtype):
    """Whatever the problem is in, so that a scan accepts them."""
    with jax.enable_x64(dtype == jnp.float64):
        formulation = lagrangian.auto()
        violation = jnp.array([0.1, -0.2], dtype)
        values = constraint_values(violation, objective=jnp.array(1.0, dtype))
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf), formulation.init(2))
        after = formulation.update_multipliers(values, start)
        types = [[leaf.dtype for leaf in jax.tree.leaves(one)] for one in (start, after)]
    assert types[0] == types[1]


def test_units_that_are_not_named_though_they_should_be():
    with pytest.raises(UserError, match="Leave named_units out"):
        step(constraint_values(jnp.ones(3)), named_units=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ceiling_comes_down_from_the_largest_multiplier_of_either_sign(sign):
    values = observed(sign * np.array([9.0, 1.0, 0.1], np.float32) * REACH, equality=True)
    _, dual = repeated(values._replace(accuracy=0.9), proven(), 100)
    largest = np.abs(dual.memory.integral).max()
    assert dual.memory.ceiling.exponent == LARGEST > largest
    after = step(values._replace(accuracy=0.5), dual)
    assert after.memory.ceiling.exponent == pytest.approx(largest - ceiling._DOWN)


def test_equalities_are_as_quick_on_either_side():
    directness = np.full(3, 0.25, np.float32)
    up, down = (
        step(observed(sign * REACH, directness=directness, equality=True)).memory.integral
        for sign in (1, -1)
    )
    np.testing.assert_allclose(up, -down)
    np.testing.assert_allclose(up, 2 * RATE, rtol=1e-6)


@pytest.mark.parametrize(
    ("tolerance", "deviation", "margin"),
    [(0.02, 0.004, 0.004), (0.02, 0.3, 0.02 * INSIDE), (0.0, 0.3, 0.0), (0.02, 0.0, 0.0)],
)
def test_the_margin_is_a_part_of_the_tolerance_or_the_deviation(tolerance, deviation, margin):
    found = step(observed(0.01, tolerance=tolerance, deviation=deviation))
    np.testing.assert_allclose(
        found.multipliers, step(observed(0.01 + margin)).multipliers, rtol=1e-5
    )
    assert (found.multipliers > step(observed(0.0)).multipliers).all()


def test_equalities_have_no_margin():
    found = step(observed(0.01, equality=True, tolerance=0.02, deviation=0.3))
    expected = step(observed(0.01, equality=True))
    np.testing.assert_array_equal(found.multipliers, expected.multipliers)


@pytest.mark.parametrize("steps", [1, 40, 20_000])
def test_anti_windup(steps):
    """However long a constraint was violated: λ falls at once, and reaches 0 after z_max / κ_i
    steps at the latest, and after as many as it was violated."""
    up, dual = repeated(observed(9.0), lagrangian.auto().init(3), steps)
    down, dual = repeated(observed(-9.0), dual, int(LARGEST / RATE) + 2)
    assert (down[0] < up[-1]).all()
    back = int(np.argmax((np.asarray(down) == 0).all(-1))) + 1
    assert (np.asarray(down)[back - 1 :] == 0).all() and back <= min(steps, LARGEST / RATE) + 1
    again, _ = repeated(observed(9.0), dual, 1)
    assert (again > 0).all()  # nor was a long time without violation gathered


def test_the_largest_exponent():
    multipliers, _ = repeated(observed(9.0), proven(), 1000)
    np.testing.assert_allclose(multipliers[-1], UNIT * np.expm1(LARGEST), rtol=1e-5)


def test_a_multiplier_grows_as_far_as_its_violation_responds():
    """To e times the share, and by a further exponent of 1 for each unit of response."""
    never, dual = repeated(observed(9.0 * REACH), lagrangian.auto().init(3), 1000)
    np.testing.assert_allclose(never[-1], UNIT * np.expm1(1), rtol=1e-5)
    np.testing.assert_allclose(dual.memory.integral, 1, rtol=1e-6)
    by_two, dual = repeated(observed(7.0 * REACH), dual, 1000)
    np.testing.assert_allclose(by_two[-1], UNIT * np.expm1(3), rtol=1e-5)
    back, _ = repeated(observed(8.0 * REACH), dual, 1)
    np.testing.assert_allclose(back[0], UNIT * np.expm1(2), rtol=1e-5)


def test_of_equalities_either_side_responds():
    sign = np.array([1.0, -1.0, 1.0], np.float32)
    _, dual = repeated(observed(9.0 * sign * REACH, equality=True), lagrangian.auto().init(3), 1000)
    _, dual = repeated(observed(7.0 * sign * REACH, equality=True), dual, 1000)
    np.testing.assert_allclose(dual.memory.integral, 3 * sign, rtol=1e-5)


def test_constraints_whose_units_are_measured_need_no_response():
    values, dual = observed(9.0, unit=0.0, reach=0.0, objective=1.0), None
    for change in (0.0, 1.0):
        dual = step(values._replace(objective=change, proxy=change * jnp.ones(3)), dual)
    _, dual = repeated(values._replace(objective=1.0, proxy=jnp.ones(3)), dual, 4000)
    assert (dual.memory.integral > 1.5).all()


@pytest.mark.parametrize("bound", [0.3, np.array([0.01, np.inf, 0.0], np.float32)], ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_bounds(bound, sign):
    values = observed(sign * 9.0, equality=True)
    free, _ = repeated(values, lagrangian.auto().init(3), 400)
    found, _ = repeated(values, lagrangian.auto().init(3), 400, bound=bound)
    np.testing.assert_allclose(found, np.clip(free, -bound, bound), rtol=1e-6)
    assert (np.abs(found) <= bound).all() and (np.abs(free) > 0.0).all()


def test_nothing_winds_up_behind_a_bound():
    """λ ≤ s is z ≤ ln 2: with one step of satisfaction less is left of it."""
    held, dual = repeated(observed(9.0), lagrangian.auto().init(3), 400, bound=UNIT)
    np.testing.assert_allclose(held[-1], UNIT, rtol=1e-6)
    np.testing.assert_allclose(dual.memory.integral, np.log(2), rtol=1e-6)
    after, _ = repeated(observed(-9.0), dual, 1, bound=UNIT)
    assert (after[0] < UNIT / 2).all()


@pytest.mark.parametrize("units", [{}, {"unit": 0.0, "reach": 0.0}], ids=["named", "measured"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_equality_winds_up_on_neither_side(sign, units):
    """One step the other way changes the sign of multipliers that a bound has held for long."""
    values = observed(sign * 9.0, equality=True, objective=1.0, **units)
    held, dual = repeated(values, lagrangian.auto().init(3), 400, bound=UNIT / 5)
    after, _ = repeated(values._replace(violation=-values.violation), dual, 1, bound=UNIT / 5)
    assert (np.sign(held[-1]) == sign).all() and (np.sign(after[0]) == -sign).all()


def test_an_equality_keeps_the_weight_of_its_group_positive():
    multipliers, _ = repeated(observed(-9.0, equality=True), proven(), 2000)
    assert (multipliers < 0).all() and (np.asarray(multipliers) > -UNIT).all()
    np.testing.assert_allclose(multipliers[-1], UNIT * np.expm1(-LARGEST), rtol=1e-5)


def of_constraint(dual, index):
    """All that is remembered of one constraint."""
    return [leaf[index] for leaf in jax.tree.leaves(dual) if leaf.shape == (3,)]


@pytest.mark.parametrize("units", [{}, {"unit": 0.0, "reach": 0.0}], ids=["named", "measured"])
@pytest.mark.parametrize(
    "masks", [("violation_mask",), ("proxy_mask",), ("violation_mask", "proxy_mask")]
)
def test_a_group_that_vanishes_for_an_epoch_keeps_its_state(masks, units):
    _, before = repeated(observed(0.01, objective=1.0, **units), lagrangian.auto().init(3), 7)
    _, before = repeated(observed(0.02, objective=2.0, **units), before, 7)
    masked = dict.fromkeys(masks, jnp.array([True, False, True]))
    away = observed([0.03, np.nan, 0.03], objective=3.0, accuracy=0.9, **masked, **units)
    _, after = repeated(away, before, 400)
    _, after = repeated(away._replace(accuracy=0.5), after, 100)
    assert after.memory.ceiling.exponent < LARGEST
    for one, other in zip(of_constraint(before, 1), of_constraint(after, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(before.memory.integral[0], after.memory.integral[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    multipliers, back = repeated(observed(0.02, objective=3.0, **units), after, 50)
    assert before.multipliers[1] > 0 and (np.diff(multipliers[:, 1]) >= 0).all()
    assert back.memory.integral[1] > before.memory.integral[1]


def test_without_any_observation_nothing_moves():
    _, before = repeated(observed(0.01, objective=1.0), lagrangian.auto().init(3), 7)
    nothing = observed(np.nan, objective=5.0, violation_mask=jnp.zeros(3, bool))
    _, after = repeated(nothing, before, 100)
    np.testing.assert_array_equal(before.multipliers, after.multipliers)
    np.testing.assert_array_equal(before.memory.integral, after.memory.integral)
    for one, other in zip(before.memory.length, after.memory.length, strict=True):
        np.testing.assert_array_equal(one, other)


def losses(x, violation, **fields):
    """Group losses x, w_g in the mean; excess losses as proxies."""
    mean = UNIT @ x
    return lagrangian.Evaluation(
        mean, observed(violation, proxy=x - mean, overall=mean * jnp.ones(3), **fields)
    )


def moved(violation, earlier=(), weight_limit=np.inf, fields=None, start=None, **options):
    """The weights of the groups in the gradient, and the dual state that it saw."""
    scheme = lagrangian.dual_primal(
        optax.sgd(1.0), lagrangian.auto(**options), weight_limit=weight_limit
    )
    x = jnp.ones(3)
    state = scheme.init(x, 3)
    state = state if start is None else state._replace(dual=start)
    at = functools.partial(losses, **fields or {})
    for one in earlier:
        _, state, _ = scheme.update(functools.partial(at, violation=one), x, state)
    after, state, _ = scheme.update(functools.partial(at, violation=violation), x, state)
    return x - after, state.dual


def test_weights_of_groups_add_up_to_the_length_of_the_step():
    """ω_g = W w_g e^{z_g} / Σ_h w_h e^{z_h}."""
    weights, dual = moved(np.array([0.05, -1.0, 1.0]), earlier=[0.01, 0.03])
    z = np.log1p(dual.multipliers / UNIT)
    length = np.exp(dual.memory.length.log_weight)
    share = UNIT * np.exp(z)
    np.testing.assert_allclose(weights, length * share / share.sum(), rtol=1e-5)
    assert length > 1.2 and weights[1] < length * UNIT[1] and weights[2] > UNIT[2]


@pytest.mark.parametrize(("steps", "made_up"), [(1, True), (60, False)])
def test_multipliers_below_0_leave_the_length_of_the_step(steps, made_up):
    """What equalities take from groups is made up for, ω_g = W w_g e^{z_g} / Σ w_h e^{z_h}, up to
    twofold."""
    violation = np.array([-0.3, -0.1, 0.02])
    weights, dual = moved(
        violation, earlier=[violation] * steps, fields={"equality": True}, start=proven()
    )
    share = UNIT + dual.multipliers
    assert (dual.multipliers[:2] < 0).all() and (share.sum() > 0.5) == made_up
    length = np.exp(dual.memory.length.log_weight)
    np.testing.assert_allclose(weights, length * share / max(share.sum(), 0.5), rtol=1e-4)


def test_a_group_acts_in_full_however_seldom_it_is_there():
    """It is in a quarter of the batches and has four times its multiplier in these; the mean over
    batches is as if it always were there."""
    values, dual = observed(0.05, proxy=jnp.ones(3)), None
    for _ in range(3):
        dual = step(values, dual)
    always = lagrangian.auto().penalty_term(values, dual)
    is_there = values._replace(presence=jnp.array([1.0, 1.0, 0.25]))
    is_away = is_there._replace(proxy_mask=jnp.array([True, True, False]))
    there, away = (lagrangian.auto().penalty_term(one, dual) for one in (is_there, is_away))
    np.testing.assert_allclose(0.25 * there + 0.75 * away, always, rtol=1e-6)
    assert there > always > away


def test_hardly_any_presence_leaves_the_weights_finite():
    values = observed(9.0, unit=1e30, proxy=jnp.ones(3), presence=jnp.array([1.0, 1e-38, 0.0]))
    assert np.isfinite(lagrangian.auto().penalty_term(values, step(values)))


def test_a_run_that_violates_nothing_has_the_steps_of_a_run_without_constraints():
    weights, dual = moved(-0.01, earlier=[-0.01] * 3)
    np.testing.assert_allclose(weights, UNIT, rtol=1e-6)
    assert not dual.multipliers.any()


@pytest.mark.parametrize(("limit", "longest", "expected"), [(1.1, 15, 1.1), (np.inf, 1.0, 1.0)])
def test_the_step_may_be_limited(limit, longest, expected):
    weights, _ = moved(1.0, [1.0] * 3, weight_limit=limit, longest=longest)
    np.testing.assert_allclose(weights.sum(), expected, rtol=1e-5)


def test_named_sets_are_independent():
    """One names its units, one does not, one rises by plain gradient ascent."""
    sets = {"named": lagrangian.auto(), "measured": lagrangian.auto(), "plain": optax.sgd(1.0)}
    formulation = as_formulation(sets)
    values = {
        "named": observed(0.01),
        "measured": observed(0.01, unit=0.0, reach=0.0, objective=1.0),
        "plain": observed(0.01),
    }
    dual = formulation.init(dict.fromkeys(sets, 3))
    total = formulation.total_weight
    assert total is not None and jnp.isinf(total(dual))
    for _ in range(3):
        dual = formulation.update_multipliers(values, dual)
    alone, _ = repeated(values["named"], lagrangian.auto().init(3), 3)
    np.testing.assert_allclose(dual["named"].multipliers, alone[-1], rtol=1e-6)
    np.testing.assert_allclose(dual["plain"].multipliers, 0.03, rtol=1e-6)
    length = jnp.exp(dual["named"].memory.length.log_weight)
    np.testing.assert_allclose(total(dual), length, rtol=1e-6)


def test_sets_that_name_no_units_leave_the_gradient_as_it_is():
    formulation = as_formulation({"a": lagrangian.auto(), "b": lagrangian.auto()})
    values = {name: observed(0.01, unit=0.0, reach=0.0) for name in "ab"}
    dual = formulation.update_multipliers(values, formulation.init({"a": 3, "b": 3}))
    assert formulation.total_weight is not None and jnp.isinf(formulation.total_weight(dual))


def test_vmap_over_members_is_a_loop():
    violation = jnp.linspace(-0.1, 0.1, 12).reshape(4, 3)

    def run(one):
        multipliers, dual = repeated(observed(one), lagrangian.auto().init(3), 20)
        return multipliers, dual.memory

    mapped = jax.vmap(run)(violation)
    for member in range(4):
        alone = run(violation[member])
        for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[member], b, rtol=1e-6, atol=1e-7)
