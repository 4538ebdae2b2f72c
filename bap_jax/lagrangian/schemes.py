"""Schemes by name."""

import math

import optax

from bap_jax.lagrangian.base import Scheme
from bap_jax.lagrangian.dual_primal import dual_primal
from bap_jax.lagrangian.extragradient import extragradient
from bap_jax.lagrangian.formulations import FormulationLike
from bap_jax.lagrangian.optimistic import optimistic
from bap_jax.lagrangian.primal_dual import primal_dual
from bap_jax.lagrangian.simultaneous import simultaneous
from bap_jax.lagrangian.switching import switching
from bap_jax.types import Array, UserError


def _switching(primal_optimizer, formulation, *, weight_limit, **options):
    del formulation, weight_limit  # there are no multipliers
    return switching(primal_optimizer, **options)


SCHEMES = {
    "simultaneous": simultaneous,
    "dual_primal": dual_primal,
    "primal_dual": primal_dual,
    "extragradient": extragradient,
    "optimistic": optimistic,
    "switching": _switching,
}


def build_scheme(
    name: str,
    primal_optimizer: optax.GradientTransformation,
    formulation: FormulationLike,
    *,
    weight_limit: Array | float = math.inf,
    **options,
) -> Scheme:
    """The scheme called `name`.

    Args:
      name: a key of `SCHEMES`.
      primal_optimizer, formulation, weight_limit: as in `steps.primal_dual_steps`.
      **options: of that scheme alone, such as `keep_ahead` of `extragradient`.

    Raises:
      UserError: the name is unknown.
    """
    if name not in SCHEMES:
        raise UserError(f"unknown scheme {name!r}; known schemes: {', '.join(SCHEMES)}.")
    return SCHEMES[name](primal_optimizer, formulation, weight_limit=weight_limit, **options)
