"""Labels: class ids, or for a loss of the user's own numbers of any shape, or a tree of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax._tables.encoding import GIVE_LABELS, are_integers
from bap_jax._tables.names import names_of
from bap_jax._tables.rows import numbered_rows
from bap_jax._tables.shown import count
from bap_jax.errors import UserError
from bap_jax.types import PyTree


def as_labels(value: Any) -> PyTree:
    """Labels as a user gives them: an array on the host, or a mapping of them.

    Whole numbers of pandas, pyarrow and others become integers.

    Raises:
      UserError: a label is None, NA or masked; the message names the first rows.
    """
    return jax.tree.map(_as_array, value, is_leaf=lambda node: not isinstance(node, Mapping))


def _as_array(labels):
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise UserError(
            "labels must be one array; these are lists of different lengths. Pad them to one "
            "length, for instance by −1, which loss='sequence' leaves out."
        ) from error
    if np.ma.isMaskedArray(labels):
        _check_complete(np.ma.getmaskarray(labels))
    if array.ndim != 1 or array.dtype.kind not in "OUS":
        return array
    found = names_of(labels, "labels")
    _check_complete(found.missing)
    # Texts stay, so that an error can say what was got.
    return np.array(list(map(int, found.names)))[found.ids] if are_integers(found) else array


def _check_complete(missing):
    """Raises an error that names the first rows without a label."""
    rows = _in_any_entry(missing) if np.ndim(missing) else missing
    if np.any(rows):
        raise UserError(
            f"labels are missing (None, NaN or masked) in {int(np.sum(rows))} of {len(rows)} "
            f"samples: {numbered_rows(rows)}. {GIVE_LABELS}"
        )


def _in_any_entry(of_entries):
    """`(sample,)` bool, whether any entry of a sample is true."""
    return np.any(of_entries, axis=tuple(range(1, np.ndim(of_entries))))


def _named_leaves(labels):
    leaves = jax.tree_util.tree_leaves_with_path(labels)
    return [(f"labels{jax.tree_util.keystr(path)}", np.asarray(leaf)) for path, leaf in leaves]


def check_label_lengths(labels: PyTree) -> dict[str, int]:
    """Number of entries of each array, by what errors call it.

    Raises:
      UserError: there is no array, or one has no axis `sample`.
    """
    leaves = _named_leaves(labels)
    if not leaves:
        raise UserError("labels hold no array; expected one entry for each sample.")
    for name, leaf in leaves:
        if leaf.ndim == 0:
            raise UserError(f"{name} must have one entry for each sample; got a single number.")
    return {name: len(leaf) for name, leaf in leaves}


def check_labels(labels: PyTree, num_classes: int | None) -> None:
    """Finds labels that no loss can take.

    Args:
      labels: `(sample, ...)`, or a tree of such arrays.
      num_classes: labels must be class ids in `[0, num_classes)`; None for any numbers.

    Raises:
      UserError: they are no class ids or out of range, or no numbers, NaN or Inf.
    """
    if num_classes is not None:
        _check_class_ids(labels, num_classes)
        return
    for name, leaf in _named_leaves(labels):
        _check_numbers(name, leaf)


def _check_class_ids(labels, num_classes):
    is_array = not isinstance(labels, Mapping | tuple | list)
    array = np.asarray(labels) if is_array else np.empty(0, int)
    if array.dtype.kind == "f":
        _check_complete(np.isnan(array))
    if not is_array or array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        got = f"{array.dtype} of shape {array.shape}" if is_array else f"a {type(labels).__name__}"
        raise UserError(
            f"labels must be integer class ids of shape (sample,); got {got}. "
            f"{_conversion(array)}For labels of another kind say what is minimised and what is "
            "right: loss='multi_label', "
            "'sequence', 'binary' or 'ordinal', or functions loss= and correct= of (logits, "
            "labels) that return (batch,)."
        )
    check_range("label", array, num_classes, "classes")


def _conversion(array):
    """What to write where labels are class ids in another form; empty where they are not."""
    if array.dtype.kind in "OUS":
        how = "np.unique(labels, return_inverse=True)[1] if they are names"
    elif array.ndim == 1 and np.isfinite(array).all() and (array % 1 == 0).all():
        how = "labels.astype(int)"
    elif array.shape[1:] == (1,):
        how = "labels[:, 0]"
    elif array.ndim == 2 and np.isin(array, (0, 1)).all() and (array.sum(1) == 1).all():
        how = "labels.argmax(1) if they are one-hot"
    else:
        return ""
    return f"Write {how}. "


def _check_numbers(name, labels):
    if not (jnp.issubdtype(labels.dtype, jnp.number) or labels.dtype == bool):
        raise UserError(f"{name} must be numbers; got an array of {labels.dtype}.")
    if not jnp.issubdtype(labels.dtype, jnp.inexact):
        return
    bad = _in_any_entry(~np.isfinite(labels.astype(np.float32)))
    if bad.any():
        raise UserError(
            f"{name} of {count(int(bad.sum()), 'sample')} hold NaN or Inf, first of sample "
            f"{int(np.argmax(bad))}; mark what has no label by a number of its own, such as −1, "
            "and leave it out in loss= and correct=, or leave the samples out."
        )


def check_range(value_name: str, values: np.ndarray, size: int, counted: str) -> None:
    """Checks that ids lie in `[0, size)`.

    Args:
      value_name: what an id is called.
      values: `(sample, ...)` the ids, in the order in which the samples were given.
      size: how many there are.
      counted: what there is that number of.

    Raises:
      UserError: one lies outside; the message names the first, and the first rows.
    """
    outside = (values < 0) | (values >= size)
    if outside.any():
        rows = _in_any_entry(outside)
        lie = "lies" if rows.sum() == 1 else "lie"
        raise UserError(
            f"{value_name} {values[outside].flat[0]} is out of range: with {size} {counted} "
            f"{value_name}s must lie in [0, {size - 1}]. {int(rows.sum())} of {len(rows)} samples "
            f"{lie} outside: {numbered_rows(rows)}."
        )
