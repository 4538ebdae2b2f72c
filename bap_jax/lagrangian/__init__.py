"""Constrained optimisation: how weights and multipliers move, over any optax optimiser."""

from bap_jax._deprecated import former_names
from bap_jax.lagrangian.augmented import augmented
from bap_jax.lagrangian.auto import LONGEST_STEP, auto
from bap_jax.lagrangian.base import (
    DualState,
    Evaluation,
    Formulation,
    LagrangianState,
    Problem,
    Scheme,
    SchemeInfo,
)
from bap_jax.lagrangian.dual_primal import dual_primal
from bap_jax.lagrangian.exponentiated_gradient import exponentiated_gradient
from bap_jax.lagrangian.extragradient import extragradient
from bap_jax.lagrangian.gradient_ascent import gradient_ascent
from bap_jax.lagrangian.optimistic import optimistic
from bap_jax.lagrangian.overall_term import (
    OVERALL_TERMS,
    detached_share,
    group_weights,
    linear_term,
)
from bap_jax.lagrangian.primal_dual import primal_dual
from bap_jax.lagrangian.quadratic_penalty import quadratic_penalty
from bap_jax.lagrangian.schemes import (
    SCHEMES,
    MakeScheme,
    SchemeSpec,
    build_scheme,
    register_scheme,
)
from bap_jax.lagrangian.simultaneous import simultaneous
from bap_jax.lagrangian.steps import each_set
from bap_jax.lagrangian.switching import switching
from bap_jax.lagrangian.transforms import dampened_momentum, nu_pi, scale_by_nu_pi

__all__ = [
    "LONGEST_STEP",
    "OVERALL_TERMS",
    "SCHEMES",
    "DualState",
    "Evaluation",
    "Formulation",
    "LagrangianState",
    "MakeScheme",
    "Problem",
    "Scheme",
    "SchemeInfo",
    "SchemeSpec",
    "augmented",
    "auto",
    "build_scheme",
    "dampened_momentum",
    "detached_share",
    "dual_primal",
    "each_set",
    "exponentiated_gradient",
    "extragradient",
    "gradient_ascent",
    "group_weights",
    "linear_term",
    "nu_pi",
    "optimistic",
    "primal_dual",
    "quadratic_penalty",
    "register_scheme",
    "scale_by_nu_pi",
    "simultaneous",
    "switching",
]

__getattr__ = former_names("bap_jax.lagrangian", {"named": "bap_jax.lagrangian.formulations.named"})
