"""Samples that are read when they are needed.

`Records` takes the place of an array of inputs without holding any: it knows how to read one sample
by its row, and which rows it stands for.

    records ──[indices]──► fewer records ──take──► array

So a split of a data set is a list of row numbers, and the images of all splits stay in one place.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bap_jax.data.images import decode
from bap_jax.errors import UserError
from bap_jax.types import Array


class ReadSample(Protocol):
    """Reads one sample; called from several threads at once."""

    def __call__(self, row: int, /) -> np.ndarray:
        """Returns the sample `(...)` of a row, always of the same shape and type."""
        ...


# Not a NamedTuple: to JAX this must be one leaf, not a tree of its fields.
@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Samples on disk, or anywhere else, in place of an array `(sample, ...)`.

    Attributes:
      read: reads one sample.
      rows: `(sample,)` which rows these are.
      sample_shape: shape of one sample.
      dtype: of every sample.

    Example:
      >>> squares = Records(lambda row: np.array(row**2), np.arange(10), (), np.dtype(int))
      >>> squares.shape
      (10,)
      >>> squares[[3, 5, 7]].take([2, 0])
      array([49,  9])
    """

    read: ReadSample
    rows: np.ndarray
    sample_shape: tuple[int, ...]
    dtype: np.dtype

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
        """`(sample, ...)`, as the array of all samples would have it."""
        return (len(self.rows), *self.sample_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the array of all samples."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

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

    def take(self, indices: Sequence[int] | Array) -> np.ndarray:
        """Reads samples.

        Args:
          indices: `(batch,)` positions in these records, which need not be their rows.

        Returns:
          `(batch, ...)` of `dtype`.

        Raises:
          UserError: a sample does not have the promised shape or type.
        """
        records = self[indices]
        samples = np.empty(records.shape, self.dtype)
        for position, row in enumerate(records.rows):
            sample = np.asarray(self.read(int(row)))
            if sample.shape != tuple(self.sample_shape) or sample.dtype != self.dtype:
                raise UserError(
                    f"sample {row} is {sample.dtype} of shape {sample.shape}; expected "
                    f"{self.dtype} of shape {tuple(self.sample_shape)}. All records must have the "
                    "same shape and type: resize them beforehand."
                )
            samples[position] = sample
        return samples


def _decode(path, shape):
    """`(height, width, 3)` uint8."""
    pixels = decode(path, f"image {path!r}").pixels
    if pixels.shape != tuple(shape):
        raise UserError(
            f"image {path!r} has shape {pixels.shape}, expected {tuple(shape)}; resize it "
            "beforehand."
        )
    return pixels
