"""Plain convolution with channels last, several positions at a time where channels are few.

XLA:CPU multiplies matrices with as many columns as there are output channels. Its fast kernels need
about 32 of them: with 16 input and 16 output channels and a 3×3 kernel it reaches 100 GFLOP/s on a
core, with 32 output channels 220. m neighbouring positions along the last spatial axis are
therefore taken for one position with m times the channels. Its kernel is wider by s (m − 1) columns
for stride s; where an offset does not belong to a position it is 0:

    y[n, (…, m u + j), o] = Σ_{q, i} x[n, (…, s m u + q − l), i] · w[(…, q − s j), i, o]

The result is laid out as y is, so nothing moves.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bap_jax.models.windows import Window


def channels_last_product(
    lhs: jax.Array,
    rhs: jax.Array,
    windows: Sequence[Window],
    lhs_dilation: tuple[int, ...] | None = None,
    precision: Any = None,
) -> jax.Array:
    """`(batch, *position, out)` of x `(batch, *spatial, in)` and w `(*offset, in, out)`.

    Args:
      windows: one for each spatial axis; with a `lhs_dilation`, of x so dilated.
    """
    numbers = channels_last(lhs.ndim - 2)
    strides = [window.stride for window in windows]
    steps = [window.dilation for window in windows]
    padding = [(window.padding, window.padding_or_crop_behind) for window in windows]
    count = 1 if lhs_dilation else merged_positions(lhs, rhs, windows)
    if count == 1:
        return lax.conv_general_dilated(
            lhs, rhs, strides, padding, lhs_dilation, steps, numbers, precision=precision
        )
    wide, stride = _wide(rhs, count, strides[-1]), strides[-1] * count
    strides = [*strides[:-1], stride]
    out = lax.conv_general_dilated(
        lhs, wide, strides, padding, None, None, numbers, precision=precision
    )
    return out.reshape(*out.shape[:-2], -1, rhs.shape[-1])


def merged_positions(lhs: jax.Array, rhs: jax.Array, windows: Sequence[Window]) -> int:
    """m, or 1 where it does not pay.

    The fast kernels take float32, two spatial axes, and more than 16 output or at least 32 input
    channels. They want 32 columns, and 64 with fewer than 8 input channels. m divides the
    positions, and at most doubles the number of products.
    """
    inner, out = rhs.shape[-2:]
    last = windows[-1]
    wanted = 64 if inner < 8 else 32
    slow = out < wanted if inner < 8 else out <= 16 and inner < 32
    plain = len(windows) == 2 and all(window.dilation == 1 for window in windows)
    if not (slow and plain and last.offsets > 1 and lhs.dtype == jnp.float32):
        return 1
    most = 1 + last.offsets // last.stride
    for count in range(math.ceil(wanted / out), most + 1):
        if last.positions % count == 0:
            return count
    return 1


def channels_last(axes: int) -> lax.ConvDimensionNumbers:
    """Of `(batch, *spatial, in)` and `(*offset, in, out)`."""
    spatial = tuple(range(1, axes + 1))
    image = (0, axes + 1, *spatial)
    return lax.ConvDimensionNumbers(image, (axes + 1, axes, *range(axes)), image)


def _wide(rhs, count, stride):
    """w for `count` positions: `(..., last offset + s (m − 1), in, m · out)`."""
    none = ((0, 0),) * (rhs.ndim - 3)
    more = stride * (count - 1)
    copies = [
        jnp.pad(rhs, (*none, (stride * j, more - stride * j), (0, 0), (0, 0))) for j in range(count)
    ]
    return lax.concatenate(copies, rhs.ndim - 1)
