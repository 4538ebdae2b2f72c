"""What must hold while a network is fine-tuned: each constraint has a violation and a proxy."""

from bap_jax._deprecated import former_names
from bap_jax.constraints import replay_buffer
from bap_jax.constraints.accuracy_gap import (
    excess_accuracy_gap,
    pairwise_disparity,
    worst_group_floor,
)
from bap_jax.constraints.among import among
from bap_jax.constraints.base import (
    Constraint,
    ConstraintValues,
    DenseReference,
    activate_when,
    combine,
    constraint_values,
    restrict,
    unconstrained,
)
from bap_jax.constraints.distillation import group_distillation
from bap_jax.constraints.equalized_loss import equalized_loss
from bap_jax.constraints.group_risk import group_risk
from bap_jax.constraints.objectives import (
    Objective,
    mean_loss,
    performance_weighted_loss,
    reweighted_loss,
)
from bap_jax.constraints.observations import Observations
from bap_jax.constraints.replay_buffer import ReplayBuffer

__all__ = [
    "Constraint",
    "ConstraintValues",
    "DenseReference",
    "Objective",
    "Observations",
    "ReplayBuffer",
    "activate_when",
    "among",
    "combine",
    "constraint_values",
    "equalized_loss",
    "excess_accuracy_gap",
    "group_distillation",
    "group_risk",
    "mean_loss",
    "pairwise_disparity",
    "performance_weighted_loss",
    "replay_buffer",
    "restrict",
    "reweighted_loss",
    "unconstrained",
    "worst_group_floor",
]

__getattr__ = former_names(
    "bap_jax.constraints",
    {
        "only": "bap_jax.constraints.restrict",
        "switch": "bap_jax.constraints.activate_when",
        "together": "bap_jax.constraints.combine",
    },
)
