"""The weight of each group's loss in the gradient (docs/method.md, equations (18) and (19)).

Where every proxy subtracts the overall loss, h_g = ℓ_g − ℓ, the weights minimise Σ_g ω_g ℓ_g with
ω_g = w_g (1 − Λ) + λ_g and Λ = Σ λ: once Λ > 1, groups with a small λ_g are driven to a higher
loss, which has no bound. `overall_term` says what happens to the overall loss ℓ inside the proxies:

    full        the exact gradient, as in the paper            ω_g = w_g (1 − Λ) + λ_g
    detached    no gradient through the overall part           ω_g = w_g + λ_g
    clipped     the overall part with weight min(Λ, 1)         ω_g = w_g (1 − min(Λ, 1)) + λ_g

The value is the same for all three; only its gradient differs.
"""

import jax
import jax.numpy as jnp

from bap_jax.constraints.base import ConstraintValues
from bap_jax.errors import UserError
from bap_jax.types import Array

OVERALL_TERMS = ("full", "detached", "clipped")


def check_overall_term(overall_term: str) -> None:
    """Checks the name of an overall term.

    Raises:
      UserError: `overall_term` is unknown; the message lists the known ones.
    """
    if overall_term not in OVERALL_TERMS:
        known = ", ".join(OVERALL_TERMS)
        raise UserError(f"unknown overall_term {overall_term!r}; known terms: {known}.")


def linear_term(values: ConstraintValues, multipliers: Array, overall_term: str = "full") -> Array:
    """Σ λ_c h_c over the constraints in `proxy_mask`; no gradient flows into λ."""
    weight = jax.lax.stop_gradient(jnp.where(values.proxy_mask, multipliers, 0))
    proxy = cut_overall(values, weight.sum(), overall_term)
    return jnp.sum(weight * jnp.where(values.proxy_mask, proxy, 0))


def cut_overall(values: ConstraintValues, multiplier_sum: Array, overall_term: str) -> Array:
    """`(constraint,)` the proxies; their overall part lets through as much gradient as is kept.

    Args:
      values: of the constraints.
      multiplier_sum: `()` Λ, total weight of the proxies.
      overall_term: one of `OVERALL_TERMS`.
    """
    if overall_term == "full":
        return values.proxy
    gradient_only = values.overall - jax.lax.stop_gradient(values.overall)
    return values.proxy + detached_share(multiplier_sum, overall_term) * gradient_only


def detached_share(multiplier_sum: Array, overall_term: str) -> Array:
    """The share of the overall part, in [0, 1], that gives no gradient at Λ = `multiplier_sum`."""
    clipped = 1 - 1 / multiplier_sum.clip(1)
    return {"full": 0.0, "detached": 1.0, "clipped": clipped}[overall_term]


def group_weights(frequency: Array, multipliers: Array, overall_term: str) -> Array:
    """`(group,)` ω_g, the weight of each group's loss in the gradient.

    A negative entry means that this group's loss is being driven up. Given NumPy arrays, the result
    is computed on the host.

    Example:
      >>> import numpy as np
      >>> frequency, multipliers = np.array([0.5, 0.5]), np.array([1.5, 0.0])
      >>> group_weights(frequency, multipliers, "full").tolist()
      [1.25, -0.25]
      >>> group_weights(frequency, multipliers, "detached").tolist()
      [2.0, 0.5]
    """
    total = multipliers.sum()
    kept = total * (1 - detached_share(total, overall_term))
    return frequency * (1 - kept) + multipliers
