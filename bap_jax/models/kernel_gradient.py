"""The gradient of a convolution's kernel as matrix products, a few rows of positions at a time.

With the names of `models.convolution`,

    ∂w[q, i, o] = Σ_{n, p} x[n, s p + d q − l, i] · ∂y[n, p, o]

is the product of two matrices over all samples and positions (n, p): ∂y, and the matrix of patches,
which has a column (q, i) for every offset and input channel. That matrix is larger than x by the
number of offsets. It is therefore made for a block of rows (positions along the first spatial
axis) at a time, in a loop that adds up the products. A block that stays in a core's cache never
travels to memory. The buffer for it is carried through the loop: offsets are then written into it
in place, where a concatenation would copy every offset twice.

Nothing has to be transposed, neither x nor ∂y: the product contracts the leading axes of both. The
loop is over rows and not over samples because a batch may be divided among devices.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bap_jax.models.windows import Window, padded, rows_of, shifted

BLOCK_BYTES = 2**20  # of patches at a time; second-level caches hold one or two megabytes


def kernel_gradient(
    lhs: jax.Array, cotangent: jax.Array, windows: Sequence[Window], precision: Any = None
) -> jax.Array:
    """∂w `(*offset, in, out)`.

    Args:
      lhs: x, `(batch, *spatial, in)`.
      cotangent: ∂y, `(batch, *position, out)`.
      windows: one for each spatial axis.
      precision: of the products. They are added up in float32 at least.
    """
    wide = jnp.promote_types(lhs.dtype, jnp.float32)
    offsets = [window.offsets for window in windows]
    inner, out = lhs.shape[-1], cotangent.shape[-1]
    lhs = padded(lhs, windows)

    def product(block, patches):
        # Flat, and ∂y first: with several axes, or the other way round, XLA:CPU transposes.
        left, right = (array.reshape(-1, array.shape[-1]) for array in (block, patches))
        axes = (((0,), (0,)), ((), ()))
        return lax.dot_general(left, right, axes, precision=precision, preferred_element_type=wide)

    rows, blocks = row_blocks(lhs.dtype.itemsize * inner * math.prod(offsets), cotangent)
    if blocks == 1:
        total = product(cotangent, lax.concatenate(shifted(lhs, windows), lhs.ndim - 1))
    else:
        lhs, cotangent = whole_blocks(lhs, cotangent, windows[0].stride, rows * blocks)
        inside = [windows[0]._replace(positions=rows), *windows[1:]]

        def add(carry, block):
            total, patches = carry
            here = rows_of(lhs, windows, block * rows, rows)
            for q, part in enumerate(shifted(here, inside)):
                patches = lax.dynamic_update_slice_in_dim(patches, part, q * inner, -1)
            rows_here = lax.dynamic_slice_in_dim(cotangent, block * rows, rows, 1)
            return (total + product(rows_here, patches), patches), None

        columns = math.prod(offsets) * inner
        shape = (cotangent.shape[0], rows, *cotangent.shape[2:-1], columns)
        start = jnp.zeros((out, columns), wide), jnp.zeros(shape, lhs.dtype)
        (total, _), _ = lax.scan(add, start, jnp.arange(blocks))
    return jnp.moveaxis(total.reshape(out, *offsets, inner), 0, -1).astype(lhs.dtype)


def row_blocks(position_bytes: int, cotangent: jax.Array) -> tuple[int, int]:
    """How many rows of ∂y to take at a time, and how many times.

    Args:
      position_bytes: what has to be kept for one position of one sample.
      cotangent: ∂y, `(batch, row, ..., out)`.
    """
    batch, positions, *others, _ = cotangent.shape
    row_bytes = position_bytes * batch * math.prod(others)
    blocks = math.ceil(positions / max(1, BLOCK_BYTES // row_bytes))
    rows = math.ceil(positions / blocks)
    return rows, math.ceil(positions / rows)


def whole_blocks(
    lhs: jax.Array, cotangent: jax.Array, stride: int, rows: int
) -> tuple[jax.Array, jax.Array]:
    """Padded x and ∂y with zeros behind them, for `rows` rows of ∂y."""
    more = rows - cotangent.shape[1]

    def longer(array, count):
        return jnp.pad(array, [(0, count if axis == 1 else 0) for axis in range(array.ndim)])

    return longer(lhs, more * stride), longer(cotangent, more)
