"""Where the offsets of a convolution's kernel fall along each spatial axis.

Position p and offset q meet x at s p + d q − l, with stride s, dilation d and padding l in front.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import lax


class Window(NamedTuple):
    """One spatial axis.

    Attributes:
      size: length of x.
      padding: l, in front of x; negative if its beginning is cut off.
      offsets: length of the kernel.
      positions: length of y.
      stride: s.
      dilation: d, from one offset to the next.
    """

    size: int
    padding: int
    offsets: int
    positions: int
    stride: int
    dilation: int

    @property
    def padding_behind(self) -> int:
        """Padding behind x, so that it is as long as the positions need; may be negative."""
        return self.span - self.size - self.padding

    @property
    def span(self) -> int:
        """Length of padded x that the positions need."""
        return self.stride * (self.positions - 1) + self.dilation * (self.offsets - 1) + 1

    @property
    def padding_or_crop_behind(self) -> int:
        """As `padding_behind`, but x is cut off only where positions would be added otherwise."""
        behind = self.padding_behind
        return behind if behind >= 0 else min(0, behind + self.stride - 1)

    def transposed(self) -> "Window":
        """That of the gradient by x: a convolution over ∂y, spread by s, with a flipped kernel."""
        padding = self.dilation * (self.offsets - 1) - self.padding
        spread = self.stride * (self.positions - 1) + 1
        return Window(spread, padding, self.offsets, self.size, 1, self.dilation)


def padded(x: jax.Array, windows: Sequence[Window]) -> jax.Array:
    """x `(batch, *spatial, channel)` with the padding of its windows, of either sign."""
    pads = [(window.padding, window.padding_behind, 0) for window in windows]
    return lax.pad(x, x.dtype.type(0), ((0, 0, 0), *pads, (0, 0, 0)))


def shifted(x: jax.Array, windows: Sequence[Window]) -> list[jax.Array]:
    """For every offset of the kernel, in order, what the positions meet in padded x."""
    parts = [x]
    for axis, window in enumerate(windows, 1):
        length = window.stride * (window.positions - 1) + 1
        parts = [
            lax.slice_in_dim(part, start, start + length, window.stride, axis)
            for part in parts
            for start in range(0, window.dilation * window.offsets, window.dilation)
        ]
    return parts


def rows_of(x: jax.Array, windows: Sequence[Window], first: jax.Array, rows: int) -> jax.Array:
    """The part of padded x that `rows` rows of positions need, from row `first`."""
    axis = windows[0]
    return lax.dynamic_slice_in_dim(x, first * axis.stride, axis._replace(positions=rows).span, 1)
