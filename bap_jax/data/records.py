"""Samples that are read when they are needed.

`Records` stands where an array of inputs stands, and holds none of them: it knows how to read one
sample by its row, and which rows are meant.

    records ──[indices]──► fewer records ──take──► array

A split of a data set is thus a list of row numbers, and the images of all splits lie in one place.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np

from bap_jax.data.images import decode
from bap_jax.types import Array, UserError


# No NamedTuple: to JAX this must be one leaf, not a tree of its fields.
@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """Samples on disk, or anywhere else, in place of an array `(sample, ...)`.

    Attributes:
      read: `row -> sample`, of shape `sample_shape`; called from several threads at once.
      rows: `(sample,)` which rows these are.
      sample_shape: of one sample.
      dtype: of every sample.
    """

    read: Callable[[int], np.ndarray]
    rows: np.ndarray
    sample_shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of_images(
        cls, paths: Sequence[str | os.PathLike], shape: tuple[int, int, int]
    ) -> "Records":
        """JPEG and PNG files, decoded to uint8.

        Args:
          paths: one file a sample.
          shape: `(height, width, 3)` of every image.

        Raises:
          UserError: `shape` is no shape of an RGB image. Later, when a sample is read: its file
            cannot be decoded or has another shape; the error names the file.
        """
        paths = [os.fspath(path) for path in paths]
        _check_rgb(shape)
        return cls(
            lambda row: _decode(paths[row], f"image {paths[row]!r}", shape),
            np.arange(len(paths)),
            tuple(shape),
            np.dtype(np.uint8),
        )

    @classmethod
    def of_bytes(cls, images: Sequence[bytes], shape: tuple[int, int, int]) -> "Records":
        """JPEG and PNG files that are held in memory as they are; else like `of_images`."""
        _check_rgb(shape)
        return cls(
            lambda row: _decode(images[row], f"image {row}", shape),
            np.arange(len(images)),
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

    def __getitem__(self, chosen: slice | Array) -> "Records":
        """The chosen samples, not yet read. For the array of a single one: `take([i])[0]`."""
        if not isinstance(chosen, slice):
            chosen = np.asarray(chosen)
            if chosen.ndim != 1:
                raise TypeError(f"records take a slice or an array of indices, got {chosen!r}")
            chosen = chosen if chosen.size else chosen.astype(int)  # [] has no type of its own
        return dataclasses.replace(self, rows=self.rows[chosen])

    def __array__(self, dtype=None, copy=None):
        # Without this NumPy would take records for a sequence, and read them one by one.
        raise TypeError("these samples are read when needed; write records.take(indices)")

    def take(self, indices: Sequence[int] | Array) -> np.ndarray:
        """Reads samples.

        Args:
          indices: `(batch,)` of these records, not rows.

        Returns:
          `(batch, ...)` of `dtype`.

        Raises:
          UserError: a sample has not the shape or type that was promised.
        """
        chosen = self[indices]
        out = np.empty(chosen.shape, self.dtype)
        for place, row in enumerate(chosen.rows):
            sample = np.asarray(self.read(int(row)))
            if sample.shape != tuple(self.sample_shape) or sample.dtype != self.dtype:
                raise UserError(
                    f"sample {row} is {sample.dtype} of shape {sample.shape}; expected "
                    f"{self.dtype} of shape {tuple(self.sample_shape)}. Records are samples of one "
                    "shape and type: resize them beforehand."
                )
            out[place] = sample
        return out


def _check_rgb(shape):
    if len(shape) != 3 or shape[-1] != 3 or min(shape) < 1:
        raise UserError(f"images are read as RGB: expected shape (height, width, 3), got {shape}.")


def _decode(file, name, shape):
    """`(height, width, 3)` uint8."""
    pixels = decode(file, name).pixels
    if pixels.shape != tuple(shape):
        raise UserError(
            f"{name} has shape {pixels.shape}, expected {tuple(shape)}; resize it beforehand."
        )
    return pixels
