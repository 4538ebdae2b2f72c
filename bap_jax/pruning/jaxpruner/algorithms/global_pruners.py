"""jaxpruner's `global_pruners`: one ranking over all leaves."""

import dataclasses
from typing import ClassVar

from bap_jax.pruning import global_pruners
from bap_jax.pruning.jaxpruner.algorithms import pruners


@dataclasses.dataclass(eq=False)
class GlobalPruningMixin(global_pruners.GlobalPruningMixin):
    """Makes a pruner rank all leaves together; the map may name leaves that do not exist."""

    unknown_paths: ClassVar[str] = "ignore"


@dataclasses.dataclass(eq=False)
class GlobalMagnitudePruning(GlobalPruningMixin, pruners.MagnitudePruning):
    """|θ|, all leaves in one ranking."""


@dataclasses.dataclass(eq=False)
class GlobalSaliencyPruning(GlobalPruningMixin, pruners.SaliencyPruning):
    """|θ ∇ℓ|, all leaves in one ranking."""
