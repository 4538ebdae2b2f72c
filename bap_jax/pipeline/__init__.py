"""The phases that a run from a config and a run from Python share.

train_dense ─► make_context ─► make_tuner ─► Tuner.run ─► evaluate_with_predictions
"""

from bap_jax._deprecated import former_names
from bap_jax.pipeline.assembly import (
    check_optimizers,
    find_prunable,
    pruner_from_settings,
    trainer_from_settings,
)
from bap_jax.pipeline.context import RunContext, make_context
from bap_jax.pipeline.dense import train_dense
from bap_jax.pipeline.final_evaluation import (
    FinalEvaluation,
    evaluate_final,
    evaluate_with_predictions,
)
from bap_jax.pipeline.iterates import Snapshot
from bap_jax.pipeline.memory import capacity, read_what_fits
from bap_jax.pipeline.monitor import TuningResult
from bap_jax.pipeline.tuner import Tuner, make_tuner, tune_one

__all__ = [
    "FinalEvaluation",
    "RunContext",
    "Snapshot",
    "Tuner",
    "TuningResult",
    "capacity",
    "check_optimizers",
    "evaluate_final",
    "evaluate_with_predictions",
    "find_prunable",
    "make_context",
    "make_tuner",
    "pruner_from_settings",
    "read_what_fits",
    "train_dense",
    "trainer_from_settings",
    "tune_one",
]

__getattr__ = former_names(
    "bap_jax.pipeline",
    {
        "Iterate": "bap_jax.pipeline.Snapshot",
        "Log": "bap_jax.pipeline.monitor.Log",
        "Outcome": "bap_jax.pipeline.tuner.Outcome",
        "Ready": "bap_jax.pipeline.RunContext",
        "Tuned": "bap_jax.pipeline.TuningResult",
        "Work": "bap_jax.pipeline.tuner.CompiledRun",
        "describe": "bap_jax.pipeline.final_evaluation.describe",
        "judge": "bap_jax.pipeline.evaluate_final",
        "make_program": "bap_jax.pipeline.tuner.make_compiled_run",
        "make_pruner": "bap_jax.pipeline.pruner_from_settings",
        "make_trainer": "bap_jax.pipeline.trainer_from_settings",
        "prepare": "bap_jax.pipeline.make_context",
        "prunable_leaves": "bap_jax.pipeline.find_prunable",
        "resolve": "bap_jax.pipeline.context.execution_for",
    },
)
