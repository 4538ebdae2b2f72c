"""Which weights go: scores, distributions, masks, schedules, and updaters that join them.

Complete in itself: it knows nothing of groups or constraints, except for one criterion that keeps
every group's share (`fairgrape`). Names and calls are jaxpruner's; its users change the import:

    from bap_jax import pruning as jaxpruner

Defaults that differ: updates count from a schedule's start and include its end
(`aligned=False`), N:M goes along the input axis (`axis=-1`), blocks lie in the last two axes
(`leading=True`), moments of weights that come back restart (`pruned_moments="keep"`); in brackets
what restores jaxpruner's.

scores ─► how many stay of each leaf ─► masks ─► when ─► updater ─► wrapped optimiser
"""

from bap_jax.pruning import base_updater as base_updater
from bap_jax.pruning import mask_calculator as mask_calculator
from bap_jax.pruning import sparsity_distributions as sparsity_distributions
from bap_jax.pruning import sparsity_schedules as sparsity_schedules
from bap_jax.pruning import sparsity_types as sparsity_types
from bap_jax.pruning.arrays import UpdaterArrays as UpdaterArrays
from bap_jax.pruning.arrays import updater_arrays as updater_arrays
from bap_jax.pruning.arrays import with_arrays as with_arrays
from bap_jax.pruning.base_updater import BaseUpdater as BaseUpdater
from bap_jax.pruning.base_updater import NoPruning as NoPruning
from bap_jax.pruning.channel_pruning import ChannelPruning as ChannelPruning
from bap_jax.pruning.fairgrape import fairgrape as fairgrape
from bap_jax.pruning.filters import Kernel as Kernel
from bap_jax.pruning.filters import leaf_paths as leaf_paths
from bap_jax.pruning.filters import path_filter as path_filter
from bap_jax.pruning.filters import prunable_leaves as prunable_leaves
from bap_jax.pruning.filters import select_paths as select_paths
from bap_jax.pruning.fixed_masks import FixedMasks as FixedMasks
from bap_jax.pruning.foresight import snip as snip
from bap_jax.pruning.foresight import synflow as synflow
from bap_jax.pruning.from_jaxpruner import from_jaxpruner as from_jaxpruner
from bap_jax.pruning.global_pruners import GlobalMagnitudePruning as GlobalMagnitudePruning
from bap_jax.pruning.global_pruners import GlobalSaliencyPruning as GlobalSaliencyPruning
from bap_jax.pruning.layerwise_pruners import MagnitudePruning as MagnitudePruning
from bap_jax.pruning.layerwise_pruners import RandomPruning as RandomPruning
from bap_jax.pruning.layerwise_pruners import SaliencyPruning as SaliencyPruning
from bap_jax.pruning.masks import apply_mask as apply_mask
from bap_jax.pruning.masks import apply_masks as apply_masks
from bap_jax.pruning.masks import magnitude_mask as magnitude_mask
from bap_jax.pruning.registry import ALGORITHM_REGISTRY as ALGORITHM_REGISTRY
from bap_jax.pruning.registry import ALGORITHMS as ALGORITHMS
from bap_jax.pruning.registry import all_algorithm_names as all_algorithm_names
from bap_jax.pruning.registry import create_updater_from_config as create_updater_from_config
from bap_jax.pruning.registry import register_algorithm as register_algorithm
from bap_jax.pruning.sparse_state import SparseState as SparseState
from bap_jax.pruning.sparse_trainers import SET as SET
from bap_jax.pruning.sparse_trainers import RigL as RigL
from bap_jax.pruning.sparse_trainers import StaticRandomSparse as StaticRandomSparse
from bap_jax.pruning.sparsity_schedules import GradualSchedule as GradualSchedule
from bap_jax.pruning.sparsity_schedules import InEpochs as InEpochs
from bap_jax.pruning.sparsity_schedules import NoUpdateSchedule as NoUpdateSchedule
from bap_jax.pruning.sparsity_schedules import OneShotSchedule as OneShotSchedule
from bap_jax.pruning.sparsity_schedules import PeriodicSchedule as PeriodicSchedule
from bap_jax.pruning.sparsity_schedules import PolynomialSchedule as PolynomialSchedule
from bap_jax.pruning.sparsity_types import SparsityType as SparsityType
from bap_jax.pruning.ste import SteMagnitudePruning as SteMagnitudePruning
from bap_jax.pruning.ste import SteRandomPruning as SteRandomPruning
from bap_jax.pruning.structured import channel_masks as channel_masks
from bap_jax.pruning.structured import channel_scores as channel_scores
from bap_jax.pruning.summary import Sparsity as Sparsity
from bap_jax.pruning.summary import leaf_sparsity as leaf_sparsity
from bap_jax.pruning.summary import sparsity as sparsity
from bap_jax.pruning.summary import summarize_intersection as summarize_intersection
from bap_jax.pruning.summary import summarize_sparsity as summarize_sparsity
from bap_jax.pruning.wrapping import check_applied as check_applied
