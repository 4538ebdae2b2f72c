"""What must hold while a network is tuned: each constraint gives a violation and a proxy."""

from bap_jax.constraints import replay_buffer as replay_buffer
from bap_jax.constraints.accuracy_gap import excess_accuracy_gap as excess_accuracy_gap
from bap_jax.constraints.base import Constraint as Constraint
from bap_jax.constraints.base import ConstraintValues as ConstraintValues
from bap_jax.constraints.base import DenseReference as DenseReference
from bap_jax.constraints.base import Observations as Observations
from bap_jax.constraints.base import unconstrained as unconstrained
from bap_jax.constraints.equalized_loss import equalized_loss as equalized_loss
