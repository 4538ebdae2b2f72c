"""The phases that a run from a config and a run from Python share.

train_dense ─► prepare ─► make_tuner ─► its `run` ─► judge
"""

from bap_jax.pipeline.assembly import make_pruner as make_pruner
from bap_jax.pipeline.assembly import make_trainer as make_trainer
from bap_jax.pipeline.assembly import prunable_leaves as prunable_leaves
from bap_jax.pipeline.dense import train_dense as train_dense
from bap_jax.pipeline.judging import describe as describe
from bap_jax.pipeline.judging import judge as judge
from bap_jax.pipeline.memory import capacity as capacity
from bap_jax.pipeline.memory import read_what_fits as read_what_fits
from bap_jax.pipeline.ready import Ready as Ready
from bap_jax.pipeline.ready import prepare as prepare
from bap_jax.pipeline.ready import resolve as resolve
from bap_jax.pipeline.tuner import Outcome as Outcome
from bap_jax.pipeline.tuner import Tuner as Tuner
from bap_jax.pipeline.tuner import Work as Work
from bap_jax.pipeline.tuner import make_program as make_program
from bap_jax.pipeline.tuner import make_tuner as make_tuner
from bap_jax.pipeline.tuner import prune_and_tune as prune_and_tune
from bap_jax.pipeline.tuner import tune_one as tune_one
from bap_jax.pipeline.watch import Iterate as Iterate
from bap_jax.pipeline.watch import Log as Log
from bap_jax.pipeline.watch import Tuned as Tuned
