"""jaxpruner's algorithms."""

from bap_jax.pruning.jaxpruner.algorithms import global_pruners as global_pruners
from bap_jax.pruning.jaxpruner.algorithms import pruners as pruners
from bap_jax.pruning.jaxpruner.algorithms import sparse_trainers as sparse_trainers
from bap_jax.pruning.jaxpruner.algorithms import ste as ste
from bap_jax.pruning.jaxpruner.algorithms.global_pruners import (
    GlobalMagnitudePruning,
    GlobalSaliencyPruning,
)
from bap_jax.pruning.jaxpruner.algorithms.pruners import (
    MagnitudePruning,
    RandomPruning,
    SaliencyPruning,
)
from bap_jax.pruning.jaxpruner.algorithms.sparse_trainers import SET, RigL, StaticRandomSparse
from bap_jax.pruning.jaxpruner.algorithms.ste import SteMagnitudePruning, SteRandomPruning

__all__ = [
    "SET",
    "GlobalMagnitudePruning",
    "GlobalSaliencyPruning",
    "MagnitudePruning",
    "RandomPruning",
    "RigL",
    "SaliencyPruning",
    "StaticRandomSparse",
    "SteMagnitudePruning",
    "SteRandomPruning",
]
