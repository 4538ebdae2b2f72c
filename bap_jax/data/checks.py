"""Finds mistakes in arrays before anything is trained."""

import numbers
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax._tables.shown import count
from bap_jax.data.input_arrays import named_leaves
from bap_jax.data.inputs import check_one_length
from bap_jax.data.labels import check_label_lengths, check_labels, check_range
from bap_jax.data.records import Records
from bap_jax.errors import UserError, first_of
from bap_jax.groups import group_counts
from bap_jax.types import Dataset, PyTree

_TO_FILL_OTHERS = (
    "Leave at least two of its samples out of test_indices (in a config, choose a smaller "
    "config.data.test_fraction, or change the column split)."
)
_TO_FILL = {
    "test": "List one of its samples in test_indices (in a config, choose a larger "
    "config.data.test_fraction, or change the column split)."
}


def check_dataset(data: Dataset, num_classes: int | None, group_names: Sequence[str]) -> None:
    """Finds mistakes in arrays.

    Args:
      data: the samples. If inputs are `Records`, only the first sample is read here; the others are
        checked when they are read.
      num_classes: labels must be class ids in `[0, num_classes)`; with None they are numbers of any
        shape, or a tree of them.
      group_names: group ids must lie in `[0, len(group_names))`.

    Raises:
      UserError: lengths differ, inputs or labels hold NaN or Inf, or labels or group ids are out of
        range.
    """
    ids = np.asarray(data.group_ids)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(
            "group_ids must be integers of shape (sample, attribute), "
            f"got {ids.dtype} of shape {ids.shape}."
        )
    lengths = check_label_lengths(data.labels)
    check_one_length(data.inputs, **lengths, groups=len(ids))
    check_labels(data.labels, num_classes)
    check_inputs(data.inputs)
    check_range("group id", ids, len(group_names), "groups")
    names = list(group_names)
    twice = (
        []
        if len(set(names)) == len(names)
        else sorted({name for name in group_names if names.count(name) > 1})
    )
    if twice:
        raise UserError(f"two groups are called {twice[0]!r}; give each a name of its own.")


def check_inputs(inputs: PyTree) -> None:
    """Finds inputs that no network can take; of `Records` only in the first sample.

    Args:
      inputs: `(sample, ...)` arrays in a pytree, or `Records`.

    Raises:
      UserError: there is no array, or one holds NaN, Inf, anything but numbers, or integers that
        the device would change; the message names it.
    """
    if isinstance(inputs, Records):
        inputs = inputs.take(np.arange(min(1, len(inputs))))
    leaves = named_leaves(inputs)
    if not leaves:
        raise UserError("inputs hold no array; expected an array (sample, ...), or a pytree of.")
    for name, leaf in leaves:
        _check_numbers(name, np.asarray(leaf))


def _check_numbers(name, array):
    # NumPy counts spans of time among the integers.
    is_number = jnp.issubdtype(array.dtype, jnp.number) and array.dtype.kind != "m"
    if not (is_number or array.dtype == bool):
        raise UserError(f"{name} must be numbers; got an array of {array.dtype}.{_hint(array)}")
    if jnp.issubdtype(array.dtype, jnp.integer):
        _check_integers(name, array)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    as_on_device = array if array.dtype.kind == "c" else array.astype(np.float32)
    bad = ~np.isfinite(as_on_device)
    if bad.any():
        sample = int(np.argmax(bad.reshape(len(array), -1).any(axis=1)))
        raise UserError(
            f"{name} hold {int(bad.sum())} NaN or Inf values, first in sample {sample}; "
            "remove or replace them."
        )


def _hint(array):
    first = next(iter(array.flat), None) if array.dtype == object else None
    if isinstance(first, Mapping):
        return " Give one dict of arrays (sample, ...), not a list of dicts."
    if isinstance(first, numbers.Number):
        return " Convert it, for instance by .astype('float32')."
    if array.dtype.kind in "UST" or isinstance(first, (str, bytes)):
        return " Tokenise or encode texts."
    if array.dtype == object:
        return (
            f" {type(first).__name__} is neither an array nor a pytree of arrays; register a class "
            "of your own by jax.tree_util.register_dataclass, or give a dict."
        )
    return ""


def _check_integers(name, array):
    limits = jnp.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
    if (
        limits.dtype != array.dtype
        and array.size
        and not limits.min <= array.min() <= array.max() <= limits.max
    ):
        raise UserError(
            f"{name} hold {array.min()} … {array.max()}; on the device they are {limits.dtype}, "
            f"which ends at {limits.max}. Give smaller ids, or set jax_enable_x64."
        )


def check_groups_present(split: str, data: Dataset, group_names: Sequence[str]) -> None:
    """Finds groups that have no sample in a split.

    Args:
      split: name of the split.
      data: its samples.
      group_names: one name for each group.

    Raises:
      UserError: a group has no sample in this split; the message names the first such groups.
    """
    counts = group_counts(data.group_ids, len(group_names))
    missing = [name for name, n in zip(group_names, counts, strict=True) if n == 0]
    if missing:
        raise UserError(
            f"no sample of group {first_of(list(map(repr, missing)), 10)} in the {split} split "
            f"({count(data.size, 'sample')}): its accuracy is undefined there. "
            f"{_TO_FILL.get(split, _TO_FILL_OTHERS)} "
            "Or merge or drop the group in your data, or group by fewer attributes (group_by=, in "
            "a config config.data.group_by)."
        )
