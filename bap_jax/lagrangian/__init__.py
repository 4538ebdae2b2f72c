"""Constrained optimisation: how weights and multipliers move, over any optax optimiser."""

from bap_jax.lagrangian.augmented import augmented as augmented
from bap_jax.lagrangian.base import DualState as DualState
from bap_jax.lagrangian.base import Evaluation as Evaluation
from bap_jax.lagrangian.base import Formulation as Formulation
from bap_jax.lagrangian.base import LagrangianState as LagrangianState
from bap_jax.lagrangian.base import Problem as Problem
from bap_jax.lagrangian.base import Scheme as Scheme
from bap_jax.lagrangian.base import SchemeInfo as SchemeInfo
from bap_jax.lagrangian.dual_primal import dual_primal as dual_primal
from bap_jax.lagrangian.exponentiated_gradient import (
    exponentiated_gradient as exponentiated_gradient,
)
from bap_jax.lagrangian.extragradient import extragradient as extragradient
from bap_jax.lagrangian.formulations import named as named
from bap_jax.lagrangian.gradient_ascent import gradient_ascent as gradient_ascent
from bap_jax.lagrangian.optimistic import optimistic as optimistic
from bap_jax.lagrangian.overall_term import OVERALL_TERMS as OVERALL_TERMS
from bap_jax.lagrangian.overall_term import detached_share as detached_share
from bap_jax.lagrangian.overall_term import group_weights as group_weights
from bap_jax.lagrangian.overall_term import linear_term as linear_term
from bap_jax.lagrangian.primal_dual import primal_dual as primal_dual
from bap_jax.lagrangian.quadratic_penalty import quadratic_penalty as quadratic_penalty
from bap_jax.lagrangian.schemes import SCHEMES as SCHEMES
from bap_jax.lagrangian.schemes import build_scheme as build_scheme
from bap_jax.lagrangian.simultaneous import simultaneous as simultaneous
from bap_jax.lagrangian.steps import each_set as each_set
from bap_jax.lagrangian.switching import switching as switching
from bap_jax.lagrangian.transforms import dampened_momentum as dampened_momentum
from bap_jax.lagrangian.transforms import nu_pi as nu_pi
from bap_jax.lagrangian.transforms import scale_by_nu_pi as scale_by_nu_pi
