"""Optax transforms made for multipliers; they receive −v, since optax descends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from bap_jax.types import Array


class DampenedMomentumState(NamedTuple):
    """State of `dampened_momentum`.

    Attributes:
      trace: m_{t−1}.
      started: `()` bool, whether a step has been made.
    """

    trace: optax.Updates
    started: Array


def dampened_momentum(momentum: float, dampening: float) -> optax.GradientTransformation:
    """m_t = momentum · m_{t−1} + (1 − dampening) · g_t, with m_0 = g_0 undamped.

    The reference's momentum for multipliers (docs/method.md, equation (21)); `dampening = momentum`
    makes it a moving average. Put it before `optax.scale_by_learning_rate` in an `optax.chain`.
    """

    def init(params):
        return DampenedMomentumState(optax.tree.zeros_like(params), jnp.zeros((), bool))

    def update(updates, state, params=None):
        del params
        scale = jnp.where(state.started, 1 - dampening, 1.0)
        trace = jax.tree.map(lambda m, g: momentum * m + scale * g, state.trace, updates)
        return trace, DampenedMomentumState(trace, jnp.ones((), bool))

    return optax.GradientTransformation(init, update)


class NuPIState(NamedTuple):
    """State of `scale_by_nu_pi`.

    Attributes:
      average: `(constraint,)` ξ_{t−1} of −v.
      started: `(constraint,)` bool, whether this constraint was ever observed.
    """

    average: Array
    started: Array


def scale_by_nu_pi(
    nu: float = 0.0, proportional: float = 1.0, integral: float = 1.0
) -> optax.GradientTransformationExtraArgs:
    """νPI, a proportional–integral controller of multipliers.

        ξ_t = ν ξ_{t−1} + (1 − ν) e_t,   direction  κ_i e_t + κ_p (ξ_t − ξ_{t−1})

    κ_p = 0 is gradient ascent; ν = 0, κ_p = κ_i is optimistic ascent. A constraint starts with
    ξ_{−1} = e_0 at its own first observation and does not move while it is not observed, so that a
    constraint first observed late gets no jump from a derivative that never happened. See
    docs/method.md, equation (22).

    Args:
      nu: ν, in (−1, 1).
      proportional: κ_p.
      integral: κ_i.

    Returns:
      A transform of one array, or a tree of arrays, whose `update` takes `observed=mask`, bools of
      the same structure; by default everything is observed.

    References:
      Sohrabi et al., On PI controllers for updating Lagrange multipliers in constrained
      optimization, ICML 2024, arXiv 2406.04558.
    """

    def init(params):
        return NuPIState(
            optax.tree.zeros_like(params), optax.tree.zeros_like(params, dtype=jnp.bool_)
        )

    def control(error, average, started, observed):
        before = jnp.where(started, average, error)
        after = jnp.where(observed, nu * before + (1 - nu) * error, average)
        direction = integral * error + proportional * (after - before)
        return jnp.where(observed, direction, 0), after, started | observed

    def update(updates, state, params=None, *, observed=None, **extra):
        del params, extra
        if observed is None:
            observed = optax.tree.ones_like(updates, dtype=jnp.bool_)
        triples = jax.tree.map(control, updates, state.average, state.started, observed)

        def pick(i):
            return jax.tree.map(lambda _, triple: triple[i], updates, triples)

        return pick(0), NuPIState(pick(1), pick(2))

    return optax.GradientTransformationExtraArgs(init, update)


def nu_pi(
    learning_rate: optax.ScalarOrSchedule,
    nu: float = 0.0,
    proportional: float = 1.0,
    integral: float = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """λ ← λ + η (κ_i e_t + κ_p (ξ_t − ξ_{t−1})), see `scale_by_nu_pi`."""
    return optax.chain(
        scale_by_nu_pi(nu, proportional, integral), optax.scale_by_learning_rate(learning_rate)
    )
