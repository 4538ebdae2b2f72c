"""The saddle-point problem  min_θ max_λ  f(θ) + Σ_c λ_c h_c(θ)  and the interface of its solvers.

    symbol   name            what it is
    f        loss            the objective
    h_c      proxy           constraint c as the weights see it
    v_c      violation       constraint c as the multipliers see it
    λ_c      multipliers     one number a constraint; ≥ 0 for inequalities

A `Scheme` says in which order weights and multipliers move. Its `update` takes the problem as a
function of the parameters alone, so that a scheme may evaluate it wherever it likes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from bap_jax.constraints.base import ConstraintValues
from bap_jax.types import Array, Params, PyTree, UserError

OVERALL_TERMS = ("full", "detached", "clipped")


class Evaluation(NamedTuple):
    """The problem at one point.

    Attributes:
      loss: `()` objective, differentiable.
      constraints: values of all constraints.
      aux: anything the caller wants back from the forward pass.
    """

    loss: Array
    constraints: ConstraintValues
    aux: PyTree = ()


Problem = Callable[[Params], Evaluation]


class LagrangianState(NamedTuple):
    """Multipliers and the states of both optimisers.

    Attributes:
      multipliers: `(constraint,)` λ.
      dual_state: optax state of the multipliers' optimiser.
      primal_state: optax state of the weights' optimiser.
    """

    multipliers: Array
    dual_state: optax.OptState
    primal_state: optax.OptState


class SchemeInfo(NamedTuple):
    """What an update saw.

    Attributes:
      evaluation: the problem where the weights' gradient was taken.
      lagrangian: `()` value of the Lagrangian there, with the multipliers the weights saw.
    """

    evaluation: Evaluation
    lagrangian: Array


class Scheme(NamedTuple):
    """How weights and multipliers take turns, as two pure functions.

    Attributes:
      init: `(params, num_constraints) -> LagrangianState`, multipliers at 0.
      update: `(problem, params, state) -> (params, state, SchemeInfo)`.
    """

    init: Callable[[Params, int], LagrangianState]
    update: Callable[[Problem, Params, LagrangianState], tuple[Params, LagrangianState, SchemeInfo]]


def check_overall_term(overall_term: str) -> None:
    """Finds an unknown name.

    Raises:
      UserError: `overall_term` is unknown; the message lists the known ones.
    """
    if overall_term not in OVERALL_TERMS:
        known = ", ".join(OVERALL_TERMS)
        raise UserError(f"unknown overall_term {overall_term!r}; known terms: {known}.")


def lagrangian(evaluation: Evaluation, multipliers: Array, overall_term: str = "full") -> Array:
    """f + Σ λ_c h_c over the constraints in `proxy_mask`.

    Where every proxy subtracts the overall loss, the weights minimise
    Σ_g ω_g ℓ_g with ω_g = w_g (1 − Λ) + λ_g and Λ = Σ λ: once Λ > 1, groups with small λ_g are
    driven to a higher loss, which has no bound. `overall_term` sets what becomes of that part. The
    value returned is the same for all three; only its gradient differs.

    Args:
      evaluation: the problem at a point.
      multipliers: `(constraint,)`; no gradient flows into them.
      overall_term: `full` takes the gradient as it stands (the paper), `detached` takes none
        through the overall part (ω_g = w_g + λ_g), `clipped` takes it with weight min(Λ, 1)
        (ω_g = w_g (1 − min(Λ, 1)) + λ_g).
    """
    check_overall_term(overall_term)
    values = evaluation.constraints
    weight = jax.lax.stop_gradient(jnp.where(values.proxy_mask, multipliers, 0))
    value = evaluation.loss + jnp.sum(weight * jnp.where(values.proxy_mask, values.proxy, 0))
    share = detached_share(weight.sum(), overall_term)
    gradient_only = values.overall - jax.lax.stop_gradient(values.overall)
    return value + share * jnp.sum(weight * gradient_only)


def detached_share(multiplier_sum: Array, overall_term: str) -> Array:
    """Which share of the overall part, in [0, 1], gives no gradient at Λ = `multiplier_sum`."""
    clipped = 1 - 1 / multiplier_sum.clip(1)
    return {"full": 0.0, "detached": 1.0, "clipped": clipped}[overall_term]


def group_weights(frequency: Array, multipliers: Array, overall_term: str) -> Array:
    """`(group,)` ω_g, the weight of each group's loss in the gradient (`lagrangian`).

    A negative entry means that this group's loss is being driven up. Numpy arrays stay on the host.
    """
    total = multipliers.sum()
    kept = total * (1 - detached_share(total, overall_term))
    return frequency * (1 - kept) + multipliers
