"""What must hold while a network is tuned: each constraint gives a violation and a proxy."""

from bap_jax._deprecated import former_names
from bap_jax.constraints import replay_buffer as replay_buffer
from bap_jax.constraints.accuracy_gap import excess_accuracy_gap as excess_accuracy_gap
from bap_jax.constraints.accuracy_gap import pairwise_disparity as pairwise_disparity
from bap_jax.constraints.accuracy_gap import worst_group_floor as worst_group_floor
from bap_jax.constraints.base import Constraint as Constraint
from bap_jax.constraints.base import ConstraintValues as ConstraintValues
from bap_jax.constraints.base import DenseReference as DenseReference
from bap_jax.constraints.base import Observations as Observations
from bap_jax.constraints.base import activate_when as activate_when
from bap_jax.constraints.base import combine as combine
from bap_jax.constraints.base import constraint_values as constraint_values
from bap_jax.constraints.base import restrict as restrict
from bap_jax.constraints.base import unconstrained as unconstrained
from bap_jax.constraints.distillation import group_distillation as group_distillation
from bap_jax.constraints.equalized_loss import equalized_loss as equalized_loss
from bap_jax.constraints.group_risk import group_risk as group_risk
from bap_jax.constraints.objectives import mean_loss as mean_loss
from bap_jax.constraints.objectives import performance_weighted_loss as performance_weighted_loss
from bap_jax.constraints.objectives import reweighted_loss as reweighted_loss
from bap_jax.constraints.replay_buffer import ReplayBuffer as ReplayBuffer

__getattr__ = former_names(
    "bap_jax.constraints",
    {
        "only": "bap_jax.constraints.restrict",
        "switch": "bap_jax.constraints.activate_when",
        "together": "bap_jax.constraints.combine",
    },
)
