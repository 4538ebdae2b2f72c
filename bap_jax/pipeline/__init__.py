"""The phases that a run from a config and a run from Python share.

train_dense ─► make_context ─► make_tuner ─► its `run` ─► evaluate_final
"""

from bap_jax._deprecated import former_names
from bap_jax.pipeline.assembly import find_prunable as find_prunable
from bap_jax.pipeline.assembly import pruner_from_settings as pruner_from_settings
from bap_jax.pipeline.assembly import trainer_from_settings as trainer_from_settings
from bap_jax.pipeline.context import RunContext as RunContext
from bap_jax.pipeline.context import make_context as make_context
from bap_jax.pipeline.context import resolve_execution as resolve_execution
from bap_jax.pipeline.dense import train_dense as train_dense
from bap_jax.pipeline.final_evaluation import describe as describe
from bap_jax.pipeline.final_evaluation import evaluate_final as evaluate_final
from bap_jax.pipeline.memory import capacity as capacity
from bap_jax.pipeline.memory import read_what_fits as read_what_fits
from bap_jax.pipeline.monitor import Log as Log
from bap_jax.pipeline.monitor import Snapshot as Snapshot
from bap_jax.pipeline.monitor import TuningResult as TuningResult
from bap_jax.pipeline.tuner import CompiledRun as CompiledRun
from bap_jax.pipeline.tuner import Outcome as Outcome
from bap_jax.pipeline.tuner import Tuner as Tuner
from bap_jax.pipeline.tuner import make_compiled_run as make_compiled_run
from bap_jax.pipeline.tuner import make_tuner as make_tuner
from bap_jax.pipeline.tuner import prune_and_tune as prune_and_tune
from bap_jax.pipeline.tuner import tune_one as tune_one

__getattr__ = former_names(
    "bap_jax.pipeline",
    {
        "Iterate": "bap_jax.pipeline.Snapshot",
        "Ready": "bap_jax.pipeline.RunContext",
        "Tuned": "bap_jax.pipeline.TuningResult",
        "Work": "bap_jax.pipeline.CompiledRun",
        "judge": "bap_jax.pipeline.evaluate_final",
        "make_program": "bap_jax.pipeline.make_compiled_run",
        "make_pruner": "bap_jax.pipeline.pruner_from_settings",
        "make_trainer": "bap_jax.pipeline.trainer_from_settings",
        "prepare": "bap_jax.pipeline.make_context",
        "prunable_leaves": "bap_jax.pipeline.find_prunable",
        "resolve": "bap_jax.pipeline.resolve_execution",
    },
)
