"""jaxpruner's `base_updater`: what all of its algorithms share."""

import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import cast

import jax

from bap_jax.pruning import base_updater as _engine
from bap_jax.pruning import no_pruning as _no_pruning
from bap_jax.pruning.jaxpruner import mask_calculator as mask_calculator
from bap_jax.pruning.jaxpruner import sparsity_distributions as sparsity_distributions
from bap_jax.pruning.jaxpruner import sparsity_schedules as sparsity_schedules
from bap_jax.pruning.jaxpruner import sparsity_types as sparsity_types
from bap_jax.pruning.masks import apply_mask as apply_mask
from bap_jax.pruning.sparse_state import SparseState as SparseState
from bap_jax.types import Array, Params, PyTree

FilterFnType = sparsity_distributions.FilterFnType
TopkFnType = mask_calculator.TopKFnType
CustomSparsityMapType = sparsity_distributions.CustomSparsityMapType
SparsityDistributionFnType = Callable[[Params], PyTree]


@dataclasses.dataclass(eq=False)
class BaseUpdater(_engine.BaseUpdater):
    """`bap_jax.pruning.BaseUpdater` with jaxpruner's defaults; its fields are described there.

    What differs: moments of weights that come back stay as they are (`SET` and `RigL` set them to
    0), scores are those that `calculate_scores` returns, and the key is a raw one.
    """

    sparsity_distribution_fn: SparsityDistributionFnType | None = functools.partial(
        sparsity_distributions.uniform, sparsity=0.0
    )
    pruned_moments: str = dataclasses.field(default="keep", kw_only=True)

    def __post_init__(self):
        self.rng_seed = raw_key(self.rng_seed)
        super().__post_init__()


@dataclasses.dataclass(eq=False)
class NoPruning(BaseUpdater, _no_pruning.NoPruning):
    """Keeps the weights dense."""

    sparsity_distribution_fn: SparsityDistributionFnType | None = None


def raw_key(seed: Array | int | None) -> Array:
    """A key as `jax.random.PRNGKey` makes them, of an int or of None (8); a key as it is."""
    if seed is None or isinstance(seed, numbers.Integral):
        return jax.random.PRNGKey(8 if seed is None else int(seed))
    return cast(Array, seed)
