"""One pure step, and the loop that repeats it."""

from bap_jax.training.evaluate import PartMeans as PartMeans
from bap_jax.training.evaluate import dense_reference as dense_reference
from bap_jax.training.evaluate import make_evaluator as make_evaluator
from bap_jax.training.evaluate import predict as predict
from bap_jax.training.loop import DivergedError as DivergedError
from bap_jax.training.loop import EpochEnd as EpochEnd
from bap_jax.training.loop import run_epochs as run_epochs
from bap_jax.training.methods import METHODS as METHODS
from bap_jax.training.methods import Method as Method
from bap_jax.training.optimizers import dual_formulation as dual_formulation
from bap_jax.training.optimizers import dual_optimizer as dual_optimizer
from bap_jax.training.optimizers import primal_optimizer as primal_optimizer
from bap_jax.training.pruner import Pruner as Pruner
from bap_jax.training.pruner import no_pruning as no_pruning
from bap_jax.training.pruners import FROM_DATA as FROM_DATA
from bap_jax.training.pruners import build_pruner as build_pruner
from bap_jax.training.pruners import prunable_groups as prunable_groups
from bap_jax.training.settings import Settings as Settings
from bap_jax.training.settings_checks import check_settings as check_settings
from bap_jax.training.state import StepMetrics as StepMetrics
from bap_jax.training.state import TrainState as TrainState
from bap_jax.training.step import Trainer as Trainer
from bap_jax.training.step import make_trainer as make_trainer
