"""What can be done with inputs, be they arrays `(sample, ...)` in a pytree, or `Records`."""

from typing import Any

import jax
import numpy as np

from bap_jax.data.input_arrays import MOST_LEAVES, as_arrays, named_leaves, of_one_sample
from bap_jax.data.records import Records
from bap_jax.errors import UserError, first_of
from bap_jax.types import Array, PyTree


def as_inputs(value: Any) -> PyTree:
    """Inputs as a user gives them: `Records`, or arrays on the host in a pytree.

    A pytree of which some leaves are `Records` becomes `Records` of pytrees.

    Raises:
      UserError: there is no array, or a leaf cannot be one.
    """
    if isinstance(value, Records):
        return value
    inputs = as_arrays(value, keep=Records)
    leaves = jax.tree.leaves(inputs)
    if not leaves:
        raise UserError("inputs hold no array; expected an array (sample, ...), or a pytree of.")
    return _joined(inputs) if any(isinstance(leaf, Records) for leaf in leaves) else inputs


def _joined(tree):
    """`Records` of pytrees, from a pytree of `Records` and arrays."""
    check_one_length(tree)

    def read(row):
        return jax.tree.map(lambda leaf: _first_of(rows_of(leaf, [row])), tree)

    sample = jax.tree.map(
        lambda leaf: leaf.sample if isinstance(leaf, Records) else of_one_sample(leaf), tree
    )
    return Records(read, np.arange(num_samples(tree)), sample=sample)


def _first_of(rows):
    return jax.tree.map(lambda leaf: leaf[0], rows)


def lengths_by_name(inputs: PyTree) -> dict[str, int]:
    """Number of entries of each array.

    Raises:
      UserError: an array has no axis `sample`.
    """
    lengths = {}
    for name, leaf in named_leaves(inputs):
        if not isinstance(leaf, Records) and np.ndim(leaf) == 0:
            raise UserError(
                f"{name} must have one entry for each sample; got a single {np.asarray(leaf).dtype}"
            )
        lengths[name] = len(leaf)
    return lengths


def check_one_length(inputs: PyTree, **others: int) -> None:
    """Checks that all arrays have the same number of entries.

    Args:
      inputs: `(sample, ...)` arrays in a pytree, or `Records`.
      **others: lengths of other arrays, by what errors call them.

    Raises:
      UserError: lengths differ; the message names them.
    """
    own = lengths_by_name(inputs)
    if len({*own.values(), *others.values()}) < 2:
        return
    listed = first_of([f"{name} {length}" for name, length in own.items()], MOST_LEAVES)
    listed += "".join(f", {name} {length}" for name, length in others.items())
    what = " and ".join(", ".join(("inputs", *others)).rsplit(", ", 1))
    # A tuple may be meant as a list, of one array for each sample.
    hint = f" {_JOIN}" if type(inputs) is tuple and len(own) > MOST_LEAVES else ""
    raise UserError(f"{what} must have one entry for each sample; got {listed}.{hint}")


_JOIN = "To join the samples of a tuple to one array write np.stack."


def num_samples(inputs: PyTree) -> int:
    """Number of samples; 0 if there are no inputs.

    Raises:
      UserError: an array has no axis `sample`.
    """
    return min(lengths_by_name(inputs).values(), default=0)


def select(inputs: PyTree, indices: Array) -> PyTree:
    """Some of the samples on the host; `Records` are not yet read."""
    if isinstance(inputs, Records):
        return inputs[indices]
    return jax.tree.map(lambda leaf: np.asarray(leaf)[indices], inputs)


def rows_of(inputs: PyTree, indices: Any) -> PyTree:
    """The arrays `(batch, ...)` of some samples on the host, read if they are `Records`."""
    return inputs.take(indices) if isinstance(inputs, Records) else select(inputs, indices)


def first_sample(inputs: PyTree) -> PyTree:
    """`(1, ...)` the first sample, read if it is one of `Records`."""
    if isinstance(inputs, Records):
        return inputs.take(np.array([0]))
    return jax.tree.map(lambda leaf: leaf[:1], inputs)


def sample_of(inputs: PyTree) -> PyTree:
    """Shapes and types of one sample, as a pytree of `jax.ShapeDtypeStruct`."""
    return inputs.sample if isinstance(inputs, Records) else of_one_sample(inputs)
