"""How weights and multipliers move: one file a scheme, one `(init, update)` interface."""

from bap_jax.lagrangian.base import OVERALL_TERMS as OVERALL_TERMS
from bap_jax.lagrangian.base import Evaluation as Evaluation
from bap_jax.lagrangian.base import LagrangianState as LagrangianState
from bap_jax.lagrangian.base import Scheme as Scheme
from bap_jax.lagrangian.base import SchemeInfo as SchemeInfo
from bap_jax.lagrangian.base import group_weights as group_weights
from bap_jax.lagrangian.base import lagrangian as lagrangian
from bap_jax.lagrangian.dual_primal import dual_primal as dual_primal
from bap_jax.lagrangian.multipliers import ascend as ascend
from bap_jax.lagrangian.multipliers import dampened_momentum as dampened_momentum
