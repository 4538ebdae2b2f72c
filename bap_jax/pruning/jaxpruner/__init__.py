"""The library jaxpruner's modules, names, signatures and defaults, on this package's engine.

    from bap_jax.pruning import jaxpruner          in place of `import jaxpruner`

Code that was written for jaxpruner (arXiv 2304.14082) then runs with current JAX: its updaters,
subclasses of them, configs and helpers. Where results differ from the original's is a table in
docs/pruning.md, each with its reason. The classes here are classes of `bap_jax.pruning` with other
defaults, so they can be used wherever those can.
"""

from bap_jax.pruning.jaxpruner import (
    algorithms,
    api,
    base_updater,
    mask_calculator,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
    utils,
)
from bap_jax.pruning.jaxpruner.algorithms import (
    SET,
    GlobalMagnitudePruning,
    GlobalSaliencyPruning,
    MagnitudePruning,
    RandomPruning,
    RigL,
    SaliencyPruning,
    StaticRandomSparse,
    SteMagnitudePruning,
    SteRandomPruning,
)
from bap_jax.pruning.jaxpruner.api import (
    ALGORITHM_REGISTRY,
    ALGORITHMS,
    all_algorithm_names,
    create_updater_from_config,
    register_algorithm,
)
from bap_jax.pruning.jaxpruner.base_updater import BaseUpdater, NoPruning, SparseState, apply_mask
from bap_jax.pruning.jaxpruner.sparsity_schedules import (
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)
from bap_jax.pruning.jaxpruner.sparsity_types import SparsityType
from bap_jax.pruning.jaxpruner.utils import summarize_intersection, summarize_sparsity

__all__ = [
    "ALGORITHMS",
    "ALGORITHM_REGISTRY",
    "SET",
    "BaseUpdater",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "MagnitudePruning",
    "NoPruning",
    "NoUpdateSchedule",
    "OneShotSchedule",
    "PeriodicSchedule",
    "PolynomialSchedule",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "SparseState",
    "SparsityType",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteRandomPruning",
    "algorithms",
    "all_algorithm_names",
    "api",
    "apply_mask",
    "base_updater",
    "create_updater_from_config",
    "mask_calculator",
    "register_algorithm",
    "sparsity_distributions",
    "sparsity_schedules",
    "sparsity_types",
    "summarize_intersection",
    "summarize_sparsity",
    "utils",
]
