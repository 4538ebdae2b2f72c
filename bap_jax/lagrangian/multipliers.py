"""How multipliers move: λ ← [λ + η v]_+ by any optax optimiser."""

import math

import jax
import jax.numpy as jnp
import optax

from bap_jax.constraints.base import ConstraintValues
from bap_jax.types import Array


def ascend(
    optimizer: optax.GradientTransformation,
    multipliers: Array,
    opt_state: optax.OptState,
    values: ConstraintValues,
    *,
    equality: bool = False,
    bound: Array | float = math.inf,
) -> tuple[Array, optax.OptState]:
    """One ascent step on the true violations of the constraints in `violation_mask`.

    Constraints that were not observed enter with a zero gradient, so that plain gradient ascent
    leaves them alone and an optimiser with momentum lets them coast, as in the reference.

    Args:
      optimizer: an optax optimiser; it is handed −v, since optax descends.
      multipliers: `(constraint,)` λ.
      opt_state: its state.
      values: where the violations come from.
      equality: leave the sign of λ free; otherwise λ is projected to λ ≥ 0.
      bound: largest |λ|. Σ λ scales the weights' gradient, and so their step; the bound keeps both
        finite where a constraint cannot be met. Analyses of proxy constraints assume one (Cotter
        et al. 2019).
    """
    violation = jax.lax.stop_gradient(values.violation)
    descent = jnp.where(values.violation_mask, -violation, 0)
    updates, opt_state = optimizer.update(descent, opt_state, multipliers)
    multipliers = optax.apply_updates(multipliers, updates)
    return jnp.clip(multipliers, -bound if equality else 0, bound), opt_state


def dampened_momentum(momentum: float, dampening: float) -> optax.GradientTransformation:
    """m_t = momentum · m_{t−1} + (1 − dampening) · g_t, with m_0 = g_0 undamped.

    The reference's dual momentum; `dampening = momentum` makes it a moving average. For use in
    `optax.chain` before `optax.scale_by_learning_rate`.
    """

    def init(params):
        return optax.TraceState(optax.tree.zeros_like(params)), jnp.zeros((), bool)

    def update(updates, state, params=None):
        del params
        trace, started = state
        scale = jnp.where(started, 1 - dampening, 1.0)
        moved = jax.tree.map(lambda m, g: momentum * m + scale * g, trace.trace, updates)
        return moved, (optax.TraceState(moved), jnp.ones((), bool))

    return optax.GradientTransformation(init, update)
