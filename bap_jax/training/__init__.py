"""Training: settings, methods, one pure step, and the loop that repeats it."""

from bap_jax._deprecated import former_names
from bap_jax.training.evaluate import make_evaluator, predict
from bap_jax.training.execution import Execution
from bap_jax.training.finite import DivergedError, EpochEnd
from bap_jax.training.masking import Pruner, no_pruning
from bap_jax.training.method_contract import Method, MethodBuilder, MethodSpec
from bap_jax.training.methods import METHODS, register_method
from bap_jax.training.optimizer_registry import (
    OPTIMIZERS,
    OptimizerBuilder,
    register_optimizer,
)
from bap_jax.training.optimizers import dual_formulation, formulation_from_settings
from bap_jax.training.overlap import class_overlap
from bap_jax.training.pruner_settings import build_pruner
from bap_jax.training.schedules import (
    SCHEDULES,
    ScheduleBuilder,
    StepCount,
    register_schedule,
)
from bap_jax.training.settings import (
    BaselineSettings,
    ConstraintSettings,
    DualSettings,
    OptimizerSettings,
    PruningSettings,
    Settings,
)
from bap_jax.training.settings_checks import check_settings
from bap_jax.training.single_run import run_epochs
from bap_jax.training.split_sums import dense_reference
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer, make_trainer
from bap_jax.training.values import SWEPT

__all__ = [
    "METHODS",
    "OPTIMIZERS",
    "SCHEDULES",
    "SWEPT",
    "BaselineSettings",
    "ConstraintSettings",
    "DivergedError",
    "DualSettings",
    "EpochEnd",
    "Execution",
    "Method",
    "MethodBuilder",
    "MethodSpec",
    "OptimizerBuilder",
    "OptimizerSettings",
    "Pruner",
    "PruningSettings",
    "ScheduleBuilder",
    "Settings",
    "StepCount",
    "StepMetrics",
    "TrainState",
    "Trainer",
    "build_pruner",
    "check_settings",
    "class_overlap",
    "dense_reference",
    "dual_formulation",
    "formulation_from_settings",
    "make_evaluator",
    "make_trainer",
    "no_pruning",
    "predict",
    "register_method",
    "register_optimizer",
    "register_schedule",
    "run_epochs",
]

__getattr__ = former_names(
    "bap_jax.training",
    {
        "Block": "bap_jax.training.loop.StepBlock",
        "MemberValues": "bap_jax.training.values.MemberValues",
        "MembersEnd": "bap_jax.training.loop.MembersEnd",
        "PartMeans": "bap_jax.training.split_sums.SplitMeans",
        "Program": "bap_jax.training.loop.Program",
        "Progress": "bap_jax.training.loop.Progress",
        "SplitMeans": "bap_jax.training.split_sums.SplitMeans",
        "StepBlock": "bap_jax.training.loop.StepBlock",
        "Values": "bap_jax.training.values.MemberValues",
        "diverged": "bap_jax.training.finite.diverged",
        "dual_optimizer": "bap_jax.training.optimizers.dual_optimizer",
        "make_part_sums": "bap_jax.training.evaluate.make_split_sums",
        "make_runner": "bap_jax.training.loop.Runner",
        "make_split_sums": "bap_jax.training.evaluate.make_split_sums",
        "make_values": "bap_jax.training.values.make_values",
        "member_state": "bap_jax.training.members.member_state",
        "member_step": "bap_jax.training.members.member_step",
        "part_means": "bap_jax.training.split_sums.split_means",
        "primal_optimizer": "bap_jax.training.optimizers.primal_optimizer",
        "prunable_groups": "bap_jax.pruning.structured.prunable_groups",
        "resolve": "bap_jax.training.execution.resolve_execution",
        "resolve_execution": "bap_jax.training.execution.resolve_execution",
        "split_means": "bap_jax.training.split_sums.split_means",
        "structure_of": "bap_jax.training.values.structure_of",
        "with_values": "bap_jax.training.values.with_values",
    },
)
