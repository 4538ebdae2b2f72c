"""jaxpruner's `global_pruners`: one ranking over all leaves."""

import dataclasses
from typing import ClassVar

from bap_jax.pruning import global_pruners as _engine
from bap_jax.pruning.jaxpruner import base_updater as base_updater
from bap_jax.pruning.jaxpruner import sparsity_distributions as sparsity_distributions
from bap_jax.pruning.jaxpruner import sparsity_types as sparsity_types
from bap_jax.pruning.jaxpruner.algorithms import pruners as pruners


@dataclasses.dataclass(eq=False)
class GlobalPruningMixin(_engine.GlobalPruningMixin):
    """Makes a pruner rank all leaves together; the map may name leaves that do not exist."""

    unknown_paths: ClassVar[str] = "ignore"


@dataclasses.dataclass(eq=False)
class GlobalMagnitudePruning(GlobalPruningMixin, pruners.MagnitudePruning):
    """|θ|, all leaves in one ranking."""


@dataclasses.dataclass(eq=False)
class GlobalSaliencyPruning(GlobalPruningMixin, pruners.SaliencyPruning):
    """|θ ∇ℓ|, all leaves in one ranking."""
