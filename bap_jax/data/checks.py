"""Finds mistakes in arrays before anything is trained."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from bap_jax.data.records import Records
from bap_jax.errors import UserError, first_of
from bap_jax.groups import group_counts
from bap_jax.types import Dataset


def check_dataset(data: Dataset, num_classes: int, group_names: Sequence[str]) -> None:
    """Finds mistakes in arrays.

    Args:
      data: the samples. If inputs are `Records`, only the first sample is read here; the others are
        checked when they are read.
      num_classes: labels must lie in `[0, num_classes)`.
      group_names: group ids must lie in `[0, len(group_names))`.

    Raises:
      UserError: lengths differ, inputs hold NaN or Inf, or labels or group ids are out of range.
    """
    labels, ids = np.asarray(data.labels), np.asarray(data.group_ids)
    inputs = data.inputs if isinstance(data.inputs, Records) else np.asarray(data.inputs)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(
            "group_ids must be integers of shape (sample, attribute), "
            f"got {ids.dtype} of shape {ids.shape}."
        )
    if len(inputs.shape) == 0 or labels.ndim == 0:
        raise UserError(
            "inputs and labels must have one entry for each sample; got a single number."
        )
    lengths = {"inputs": len(inputs), "labels": len(labels), "groups": len(ids)}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(
            f"inputs, labels and groups must have one entry for each sample; got {listed}."
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            "labels must be integer class ids of shape (sample,); "
            f"got {labels.dtype} of shape {labels.shape}."
        )
    first = np.arange(min(1, len(inputs)))
    _check_finite(inputs.take(first) if isinstance(inputs, Records) else inputs)
    _check_range("label", labels, num_classes, "classes")
    _check_range("group id", ids, len(group_names), "groups")


def _check_finite(inputs):
    if not (jnp.issubdtype(inputs.dtype, jnp.number) or inputs.dtype == bool):
        raise UserError(f"inputs must be numbers; got an array of {inputs.dtype}.")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        return
    bad = ~np.isfinite(inputs.astype(np.float32))
    if bad.any():
        sample = int(np.argmax(bad.reshape(len(inputs), -1).any(axis=1)))
        raise UserError(
            f"inputs hold {int(bad.sum())} NaN or Inf values, first in sample {sample}; "
            "remove or replace them."
        )


def _check_range(value_name, values, size, counted):
    outside = values[(values < 0) | (values >= size)]
    if outside.size:
        raise UserError(
            f"{value_name} {outside.flat[0]} is out of range: with {size} {counted} "
            f"{value_name}s must lie in [0, {size - 1}]."
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
            f"({data.size} samples): its accuracy is undefined there. Group by fewer attributes "
            "(config.data.group_by), merge or drop the group in your data, or put more samples "
            "into the split."
        )
