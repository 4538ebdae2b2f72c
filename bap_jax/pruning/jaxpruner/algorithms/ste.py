"""jaxpruner's `ste`: straight-through estimators (arXiv 1308.3432)."""

import dataclasses

from bap_jax.pruning.jaxpruner import base_updater as base_updater
from bap_jax.pruning.jaxpruner.algorithms import pruners as pruners
from bap_jax.pruning.ste import SteMixin


@dataclasses.dataclass(eq=False)
class SteMagnitudePruning(SteMixin, pruners.MagnitudePruning):
    """Straight-through, by magnitude."""


@dataclasses.dataclass(eq=False)
class SteRandomPruning(SteMixin, pruners.RandomPruning):
    """Straight-through, at random."""
