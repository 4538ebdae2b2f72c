"""Samples that are read when they are needed.

`Records` takes the place of an array of inputs without holding any: it knows how to read one sample
by its row, and which rows it stands for.

    records ──[indices]──► fewer records ──take──► array, or arrays in a pytree

So a split of a data set is a list of row numbers, and the images of all splits stay in one place.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import numpy as np

from bap_jax.data.images import decode
from bap_jax.data.input_arrays import as_arrays, named_leaves
from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree


class ReadSample(Protocol):
    """Reads one sample; called from several threads at once."""

    def __call__(self, row: int, /) -> Any:
        """Returns the sample of a row, always of the same structure, shapes and types."""
        ...


# Not a NamedTuple: to JAX this must be one leaf, not a tree of its fields.
@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Samples on disk, or anywhere else, in place of an array `(sample, ...)` or a pytree of them.

    Attributes:
      read: reads one sample, an array or a pytree of arrays.
      rows: `(sample,)` which rows these are.
      sample_shape: shape of one sample that is an array.
      dtype: of every such sample.
      sample: shapes and types of one sample, as a pytree of `jax.ShapeDtypeStruct`; give either
        this, or `sample_shape` and `dtype`.

    Raises:
      UserError: neither is given.

    Example:
      >>> squares = Records(lambda row: np.array(row**2), np.arange(10), (), np.dtype(int))
      >>> squares.shape
      (10,)
      >>> squares[[3, 5, 7]].take([2, 0])
      array([49,  9])
      >>> of_dicts = Records.of_samples(lambda row: {"x": np.ones(2), "n": row}, 10)
      >>> of_dicts.take([4, 2])["n"]
      array([4, 2])
    """

    read: ReadSample
    rows: np.ndarray
    sample_shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None
    sample: PyTree = None

    def __post_init__(self):
        if self.sample is None:
            if self.dtype is None:
                raise UserError("Records need sample_shape and dtype, or sample.")
            sample = jax.ShapeDtypeStruct(tuple(self.sample_shape), self.dtype)
            object.__setattr__(self, "sample", sample)
        elif isinstance(self.sample, jax.ShapeDtypeStruct):
            object.__setattr__(self, "sample_shape", self.sample.shape)
            object.__setattr__(self, "dtype", self.sample.dtype)

    @classmethod
    def of_samples(cls, read: ReadSample, count: int) -> "Records":
        """Samples with the structure, shapes and types of the first one, which is read here.

        Args:
          read: reads one sample: an array, or arrays in a dict, a tuple or any other pytree.
          count: rows are 0 … count − 1.

        Raises:
          UserError: there is no sample.
        """
        if count < 1:
            raise UserError("there is no sample to read; expected a count of 1 or more.")
        first = as_arrays(read(0))
        sample = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), first)
        return cls(read, np.arange(count), sample=sample)

    @classmethod
    def of_images(
        cls, paths: Sequence[str | os.PathLike], shape: tuple[int, int, int]
    ) -> "Records":
        """JPEG and PNG files, decoded to uint8.

        Args:
          paths: one file for each sample.
          shape: `(height, width, 3)` of every image.

        Raises:
          UserError: `shape` is not the shape of an RGB image. Later, when a sample is read: its
            file cannot be decoded or has another shape; the error names the file.
        """
        files = [os.fspath(path) for path in paths]
        if len(shape) != 3 or shape[-1] != 3 or min(shape) < 1:
            raise UserError(
                f"images are read as RGB: expected shape (height, width, 3), got {shape}."
            )
        return cls(
            lambda row: _decode(files[row], shape),
            np.arange(len(files)),
            tuple(shape),
            np.dtype(np.uint8),
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """`(sample, ...)`, as the array of all samples would have it.

        Raises:
          TypeError: samples are pytrees of arrays, which have no common shape.
        """
        if self.dtype is None:
            raise TypeError("these samples are pytrees; write records.sample for their shapes")
        return (len(self.rows), *self.sample_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays of all samples."""
        each = (
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(self.sample)
        )
        return len(self.rows) * sum(each)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, indices: slice | Array | Sequence[int]) -> "Records":
        """Records of some samples, not yet read. For the array of a single one: `take([i])[0]`."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            if indices.ndim != 1:
                raise TypeError(f"records take a slice or an array of indices, got {indices!r}")
            indices = indices if indices.size else indices.astype(int)  # [] would be float
        return dataclasses.replace(self, rows=self.rows[indices])

    def __array__(self, dtype=None, copy=None):
        # Without this, NumPy would treat records as a sequence and read them one by one.
        raise TypeError("these samples are read when needed; write records.take(indices)")

    def take(self, indices: Sequence[int] | Array) -> PyTree:
        """Reads samples.

        Args:
          indices: `(batch,)` positions in these records, which need not be their rows.

        Returns:
          `(batch, ...)` arrays, in the structure of `sample`.

        Raises:
          UserError: a sample does not have the promised structure, shapes and types.
        """
        records = self[indices]
        batch = self.empty(len(records))
        arrays = jax.tree.leaves(batch)
        alone = None if self.dtype is None else (self.sample.shape, self.sample.dtype)
        for position, row in enumerate(records.rows):
            sample = self.read(int(row))
            # The usual case, in half the time.
            if type(sample) is np.ndarray and (sample.shape, sample.dtype) == alone:
                arrays[0][position] = sample
                continue
            for array, leaf in zip(arrays, self._leaves(sample, row), strict=True):
                array[position] = leaf
        return batch

    def empty(self, count: int) -> PyTree:
        """Arrays `(count, ...)` with room for as many samples."""
        return jax.tree.map(lambda leaf: np.empty((count, *leaf.shape), leaf.dtype), self.sample)

    def _leaves(self, sample, row):
        """The arrays of a sample.

        Raises:
          UserError: structure, shapes or types are not as promised.
        """
        expected, structure = jax.tree.flatten(self.sample)
        leaves, own_structure = jax.tree.flatten(sample)
        if own_structure == structure and all(map(_is_as, leaves, expected)):
            return leaves
        sample = as_arrays(sample)
        leaves, own_structure = jax.tree.flatten(sample)
        if own_structure != structure:
            names = [", ".join(name for name, _ in named_leaves(t)) for t in (sample, self.sample)]
            raise UserError(f"sample {row} holds {names[0]}; expected {names[1]}.")
        for i, (leaf, like) in enumerate(zip(leaves, expected, strict=True)):
            if leaf.shape != like.shape or leaf.dtype != like.dtype:
                name = "" if self.dtype is not None else f", {named_leaves(sample)[i][0]},"
                raise UserError(
                    f"sample {row}{name} is {leaf.dtype} of shape {leaf.shape}; expected "
                    f"{like.dtype} of shape {like.shape}. All records must have the same shape and "
                    "type: resize them beforehand."
                )
        return leaves


def _is_as(leaf, like):
    is_plain = type(leaf) is np.ndarray or isinstance(leaf, np.generic)
    return is_plain and leaf.shape == like.shape and leaf.dtype == like.dtype


def _decode(path, shape):
    """`(height, width, 3)` uint8."""
    pixels = decode(path, f"image {path!r}").pixels
    if pixels.shape != tuple(shape):
        raise UserError(
            f"image {path!r} has shape {pixels.shape}, expected {tuple(shape)}; resize it "
            "beforehand."
        )
    return pixels
