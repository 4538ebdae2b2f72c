"""An updater as structure and arrays: runs of many sparsities and seeds in one program.

    updater ─► updater_arrays ─► stack ─► vmap(arrays ─► with_arrays(updater, arrays))

Runs that differ in nothing else share one updater; what they differ in is an argument of the
program. Counts are made on the host, in double precision, for a program knows of a sparsity its
float32 value only.

    arrays = [updater_arrays(updater, params) for updater in updaters]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *arrays)
    jax.vmap(lambda arrays: train(with_arrays(updaters[0], arrays)))(stacked)
"""

import copy
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.fixed_masks import FixedMasks
from bap_jax.types import Array, Params, PyTree

# Whoever overrides one of these may read numbers in ways that arrays do not stand in for.
_METHODS = (
    "init_state",
    "get_initial_masks",
    "create_masks",
    "update_masks",
    "update_state",
    "instant_sparsify",
)


class UpdaterArrays(NamedTuple):
    """What may differ between runs of one program; None: the updater has no such thing.

    All None: the updater is not to be taken apart, and each has a program of its own.

    Attributes:
      targets: `()` float32 for each pruned leaf, None for the others; or one for all leaves.
      kept: `(leaf, update)` int32, how many weights (blocks, channels) of a pruned leaf (all
        leaves, a group of channels) stay at each update; None where they follow from `targets`.
      key: of what is random, as the updater's `rng_seed`.
      masks: of `FixedMasks`.
    """

    targets: PyTree = None
    kept: Array | None = None
    key: Array | None = None
    masks: PyTree = None


def updater_arrays(updater: Any, params: Params) -> UpdaterArrays:
    """What an updater holds of sparsities, keys and masks.

    Updaters of one class and with equal fields otherwise have arrays of one structure.

    Args:
      updater: any. All is None of one that is not a `BaseUpdater`, has a `topk_fn`, targets that
        are no Python numbers, or methods of its own other than `calculate_scores`.
      params: only paths and shapes are read.

    Raises:
      UserError: a shape does not go with the sparsity type, or what the distribution raises.
    """
    if not _is_divisible(updater):
        return UpdaterArrays()
    targets = updater.find_targets(params)
    if not all(isinstance(target, numbers.Real) for target in jax.tree.leaves(targets)):
        return UpdaterArrays()
    return UpdaterArrays(
        targets=jax.tree.map(lambda target: np.asarray(target, np.float32), targets),
        kept=updater.exact_counts(params),
        key=updater.rng_seed,
        masks=updater.masks if isinstance(updater, FixedMasks) else None,
    )


def with_arrays(updater: Any, arrays: UpdaterArrays) -> Any:
    """A copy of an updater that reads arrays in place of its own numbers.

    With its own arrays it makes the masks that the updater itself makes. Where there is no table
    of counts, `instant_sparsify` counts by the float32 targets.

    Args:
      updater: whose fields hold for all runs: schedule, sparsity type, counting rule, filters,
        custom sparsities, which leaves are pruned.
      arrays: of `updater_arrays`; may be traced.

    Returns:
      The copy; `updater` itself where all arrays are None.
    """
    if all(field is None for field in arrays):
        return updater
    found, arrays = copy.copy(updater), jax.tree.map(jnp.asarray, arrays)
    if arrays.targets is not None:
        found.take_targets(arrays.targets)
    if arrays.key is not None:
        found.rng_seed = arrays.key
    if arrays.masks is not None:
        found.masks = arrays.masks
    found._given_counts = arrays.kept
    return found


def _is_divisible(updater):
    if not isinstance(updater, BaseUpdater) or updater.topk_fn is not None:
        return False
    methods = [getattr(type(updater), name) for name in _METHODS]
    return all(getattr(one, "__module__", "").startswith("bap_jax.") for one in methods)
