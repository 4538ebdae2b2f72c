"""Which weights are removed: scores, distributions, masks, schedules, and updaters that join them.

    scores ─► how many stay of each leaf ─► masks ─► when ─► updater ─► wrapped optimiser

The package can be used alone. It knows nothing about groups or constraints, except that one
criterion (`fairgrape`) keeps every group's share. Names and calls are jaxpruner's. Code that was
written for jaxpruner needs its submodules and defaults, which are in `pruning.jaxpruner`:

    from bap_jax.pruning import jaxpruner

Here other defaults hold: updates count from a schedule's start and include its end (`aligned`), N:M
goes along the inputs (`axis`), blocks lie in the last two axes (`leading`), moments of weights
that come back restart (`pruned_moments`).

To add a criterion, see `BaseUpdater` and `MasksFromData`.
"""

from bap_jax._deprecated import former_names
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning import base_updater as base_updater
from bap_jax.pruning import jaxpruner as jaxpruner
from bap_jax.pruning import mask_calculator as mask_calculator
from bap_jax.pruning import sparsity_distributions, sparsity_schedules, sparsity_types
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.channel_pruning import ChannelPruning
from bap_jax.pruning.data_criteria import MaskInputs, MasksFromData
from bap_jax.pruning.declarations import UpdaterOptions
from bap_jax.pruning.fairgrape import fairgrape
from bap_jax.pruning.filters import path_filter
from bap_jax.pruning.fixed_masks import FixedMasks
from bap_jax.pruning.foresight import snip, synflow
from bap_jax.pruning.from_jaxpruner import from_jaxpruner
from bap_jax.pruning.global_pruners import GlobalMagnitudePruning, GlobalSaliencyPruning
from bap_jax.pruning.jaxpruner_api import ALGORITHM_REGISTRY as ALGORITHM_REGISTRY
from bap_jax.pruning.jaxpruner_api import ALGORITHMS as ALGORITHMS
from bap_jax.pruning.jaxpruner_api import all_algorithm_names as all_algorithm_names
from bap_jax.pruning.jaxpruner_api import apply_mask as apply_mask
from bap_jax.pruning.jaxpruner_api import create_updater_from_config as create_updater_from_config
from bap_jax.pruning.jaxpruner_api import summarize_intersection as summarize_intersection
from bap_jax.pruning.jaxpruner_api import summarize_sparsity as summarize_sparsity
from bap_jax.pruning.layers import kernel_axes
from bap_jax.pruning.layerwise_pruners import MagnitudePruning, RandomPruning, SaliencyPruning
from bap_jax.pruning.masks import apply_masks
from bap_jax.pruning.no_pruning import NoPruning
from bap_jax.pruning.registry import algorithm_names, register_algorithm
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.pruning.sparse_trainers import SET, RigL, StaticRandomSparse
from bap_jax.pruning.sparsity_schedules import (
    GradualSchedule,
    InEpochs,
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)
from bap_jax.pruning.sparsity_types import SparsityType as SparsityType
from bap_jax.pruning.ste import SteMagnitudePruning, SteRandomPruning
from bap_jax.pruning.structured import channel_masks
from bap_jax.pruning.summary import Sparsity, leaf_sparsity, sparsity
from bap_jax.pruning.wrapping import check_applied
from bap_jax.trees import leaf_paths

__all__ = [
    "SET",
    "BaseUpdater",
    "ChannelPruning",
    "FixedMasks",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "GradualSchedule",
    "InEpochs",
    "KernelAxes",
    "MagnitudePruning",
    "MaskInputs",
    "MasksFromData",
    "NoPruning",
    "NoUpdateSchedule",
    "OneShotSchedule",
    "PeriodicSchedule",
    "PolynomialSchedule",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "SparseState",
    "Sparsity",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteRandomPruning",
    "UpdaterOptions",
    "algorithm_names",
    "apply_masks",
    "channel_masks",
    "check_applied",
    "fairgrape",
    "from_jaxpruner",
    "kernel_axes",
    "leaf_paths",
    "leaf_sparsity",
    "path_filter",
    "register_algorithm",
    "snip",
    "sparsity",
    "sparsity_distributions",
    "sparsity_schedules",
    "sparsity_types",
    "synflow",
]

__getattr__ = former_names(
    "bap_jax.pruning",
    {
        "Kernel": "bap_jax.pruning.filters.Kernel",
        "UpdaterArrays": "bap_jax.pruning.arrays.UpdaterArrays",
        "prunable_leaves": "bap_jax.pruning.filters.prunable_leaves",
        "select_paths": "bap_jax.pruning.filters.select_paths",
        "updater_arrays": "bap_jax.pruning.arrays.updater_arrays",
        "with_arrays": "bap_jax.pruning.arrays.with_arrays",
    },
)
