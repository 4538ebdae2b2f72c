"""An updater taken apart into structure and arrays, for runs that share a program.

    updater ─► updater_arrays ─► stack ─► vmap(arrays ─► with_arrays(updater, arrays))

Runs that differ only in sparsities, seeds and given masks share one updater, and what they differ
in is an argument of the program. Counts are made on the host, in double precision, because within a
program a sparsity is known by its float32 value only.

    arrays = [updater_arrays(updater, params) for updater in updaters]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *arrays)
    jax.vmap(lambda arrays: train(with_arrays(updaters[0], arrays)))(stacked)
"""

import copy
import dataclasses
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.promises import promised
from bap_jax.types import Array, Params, PyTree

# A class that overrides one of these may read numbers in ways that arrays cannot replace.
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

    All None: the updater cannot be taken apart, and each run needs a separate program.

    Attributes:
      targets: `()` float32 for each pruned leaf, None for the others; or one for all leaves.
      kept: `(leaf, update)` int32, how many weights (blocks, channels) of a pruned leaf (all
        leaves, a group of channels) stay at each update; None where they follow from `targets`.
      key: the updater's `rng_seed`.
      masks: those that the updater was given, see `FixedMasks`.
    """

    targets: PyTree = None
    kept: Array | None = None
    key: Array | None = None
    masks: PyTree = None


def updater_arrays(updater: Any, params: Params) -> UpdaterArrays:
    """The sparsities, counts, key and given masks of an updater.

    Updaters of one class whose other fields are equal have arrays of one structure.

    Args:
      updater: any. All fields are None for one that is not a `BaseUpdater`, that has a `topk_fn` or
        targets that are not Python numbers, or whose class does not promise `supports_arrays`.
      params: only paths and shapes are read.

    Raises:
      UserError: a shape does not go with the sparsity type, or the distribution raises it.
    """
    if not _supports_arrays(updater):
        return UpdaterArrays()
    targets = updater.find_targets(params)
    if not all(isinstance(target, numbers.Real) for target in jax.tree.leaves(targets)):
        return UpdaterArrays()
    return UpdaterArrays(
        targets=jax.tree.map(lambda target: np.asarray(target, np.float32), targets),
        kept=updater.exact_counts(params),
        key=updater.rng_seed,
        masks=updater.find_masks(),
    )


def with_arrays(updater: Any, arrays: UpdaterArrays) -> Any:
    """A copy of an updater that reads arrays instead of the updater's numbers.

    With its own arrays it makes the masks that the updater itself makes. Where there is no table
    of counts, `instant_sparsify` counts by the float32 targets.

    Args:
      updater: its other fields hold for all runs: schedule, sparsity type, counting rule, filters,
        custom sparsities, which leaves are pruned.
      arrays: from `updater_arrays`; may be traced.

    Returns:
      The copy; `updater` itself where all arrays are None.
    """
    if all(field is None for field in arrays):
        return updater
    replaced, arrays = copy.copy(updater), jax.tree.map(jnp.asarray, arrays)
    if arrays.targets is not None:
        replaced.take_targets(arrays.targets)
    if arrays.key is not None:
        replaced.rng_seed = arrays.key
    if arrays.masks is not None:
        replaced.take_masks(arrays.masks)
    replaced._given_counts = arrays.kept
    return replaced


def _supports_arrays(updater):
    if not isinstance(updater, BaseUpdater) or not updater.has_standard_topk():
        return False
    # A function that the object itself holds may read the numbers of the updater it came from.
    fields = {field.name for field in dataclasses.fields(updater)}
    replaced = [name for name in vars(updater) if name not in fields]
    if any(callable(getattr(type(updater), name, None)) for name in replaced):
        return False
    return promised(updater, "supports_arrays", *_METHODS)
