"""One pure step, and the loop that repeats it."""

from bap_jax._deprecated import former_names
from bap_jax.training.epoch import Program as Program
from bap_jax.training.evaluate import SplitMeans as SplitMeans
from bap_jax.training.evaluate import dense_reference as dense_reference
from bap_jax.training.evaluate import make_evaluator as make_evaluator
from bap_jax.training.evaluate import make_split_sums as make_split_sums
from bap_jax.training.evaluate import predict as predict
from bap_jax.training.evaluate import split_means as split_means
from bap_jax.training.execution import Execution as Execution
from bap_jax.training.execution import resolve_execution as resolve_execution
from bap_jax.training.loop import DivergedError as DivergedError
from bap_jax.training.loop import EpochEnd as EpochEnd
from bap_jax.training.loop import MembersEnd as MembersEnd
from bap_jax.training.loop import Progress as Progress
from bap_jax.training.loop import StepBlock as StepBlock
from bap_jax.training.loop import diverged as diverged
from bap_jax.training.loop import make_runner as make_runner
from bap_jax.training.loop import member_state as member_state
from bap_jax.training.loop import member_step as member_step
from bap_jax.training.loop import run_epochs as run_epochs
from bap_jax.training.masking import Pruner as Pruner
from bap_jax.training.masking import no_pruning as no_pruning
from bap_jax.training.methods import METHODS as METHODS
from bap_jax.training.methods import Method as Method
from bap_jax.training.optimizers import dual_formulation as dual_formulation
from bap_jax.training.optimizers import dual_optimizer as dual_optimizer
from bap_jax.training.optimizers import primal_optimizer as primal_optimizer
from bap_jax.training.pruner_settings import build_pruner as build_pruner
from bap_jax.training.settings import Settings as Settings
from bap_jax.training.settings_checks import check_settings as check_settings
from bap_jax.training.state import StepMetrics as StepMetrics
from bap_jax.training.state import TrainState as TrainState
from bap_jax.training.step import Trainer as Trainer
from bap_jax.training.step import make_trainer as make_trainer
from bap_jax.training.values import SWEPT as SWEPT
from bap_jax.training.values import MemberValues as MemberValues
from bap_jax.training.values import make_values as make_values
from bap_jax.training.values import structure_of as structure_of
from bap_jax.training.values import with_values as with_values

__getattr__ = former_names(
    "bap_jax.training",
    {
        "Block": "bap_jax.training.StepBlock",
        "PartMeans": "bap_jax.training.SplitMeans",
        "Values": "bap_jax.training.MemberValues",
        "make_part_sums": "bap_jax.training.make_split_sums",
        "prunable_groups": "bap_jax.pruning.structured.prunable_groups",
        "part_means": "bap_jax.training.split_means",
        "resolve": "bap_jax.training.resolve_execution",
    },
)
