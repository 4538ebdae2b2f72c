"""Depthwise convolution, and its gradients, as shifted products.

Every channel is convolved by itself, with m kernels. For sample n, position p, channel c, its
kernel j, and offset q, with stride s, dilation d and padding l in front:

    y[n, p, c, j] = Σ_q x[n, s p + d q − l, c] · w[q, c, j]

    ∂w[q, c, j] = Σ_{n, p} x[n, s p + d q − l, c] · ∂y[n, p, c, j]
    ∂x[n, r, c] = Σ_{p, q, j : s p + d q − l = r} ∂y[n, p, c, j] · w[q, c, j]

XLA:CPU has no kernel for it; it computes every product with a general loop. As a sum of one
shifted image for every offset, each times a number for every channel, it is a single pass over the
image with vector instructions. The kernel's gradient is added up over blocks of rows, as in
`kernel_gradient`.
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from bap_jax.models.kernel_gradient import row_blocks, whole_blocks
from bap_jax.models.windows import Window, padded, rows_of, shifted


def depthwise(lhs: jax.Array, rhs: jax.Array, windows: Sequence[Window]) -> jax.Array:
    """y `(batch, *position, channel · m)`.

    Args:
      lhs: x, `(batch, *spatial, channel)`.
      rhs: w, `(*offset, 1, channel · m)`.
      windows: one for each spatial axis.
    """
    return _sum_of_products(_repeated(lhs, rhs), rhs, windows).astype(lhs.dtype)


def depthwise_gradients(
    lhs: jax.Array, rhs: jax.Array, cotangent: jax.Array, windows: Sequence[Window]
) -> tuple[jax.Array, jax.Array]:
    """∂x and ∂w, for ∂y `(batch, *position, channel · m)`."""
    return (
        _lhs_gradient(rhs, cotangent, windows, lhs.shape[-1]).astype(lhs.dtype),
        _rhs_gradient(_repeated(lhs, rhs), cotangent, windows).reshape(rhs.shape).astype(rhs.dtype),
    )


def _lhs_gradient(rhs, cotangent, windows, channels):
    spread = [(0, 0, window.stride - 1) for window in windows]
    zero = cotangent.dtype.type(0)
    cotangent = lax.pad(cotangent, zero, ((0, 0, 0), *spread, (0, 0, 0)))
    flipped = jnp.flip(rhs, tuple(range(len(windows))))
    total = _sum_of_products(cotangent, flipped, [window.transposed() for window in windows])
    return total.reshape(*total.shape[:-1], channels, -1).sum(-1)


def _rhs_gradient(lhs, cotangent, windows):
    wide = jnp.promote_types(lhs.dtype, jnp.float32)
    rows, blocks = row_blocks(lhs.dtype.itemsize * lhs.shape[-1], cotangent)
    lhs, cotangent = whole_blocks(padded(lhs, windows), cotangent, windows[0].stride, rows * blocks)
    inside = [windows[0]._replace(positions=rows), *windows[1:]]

    def add(total, block):
        here = rows_of(lhs, windows, block * rows, rows).astype(wide)
        rows_here = lax.dynamic_slice_in_dim(cotangent, block * rows, rows, 1).astype(wide)
        axes = tuple(range(rows_here.ndim - 1))
        sums = [(part * rows_here).sum(axes) for part in shifted(here, inside)]
        return total + jnp.stack(sums), None

    offsets = math.prod(window.offsets for window in windows)
    empty = jnp.zeros((offsets, lhs.shape[-1]), wide)
    return lax.scan(add, empty, jnp.arange(blocks))[0]


def _repeated(lhs, rhs):
    """x with every channel m times in a row."""
    multiplier = rhs.shape[-1] // lhs.shape[-1]
    return lhs if multiplier == 1 else jnp.repeat(lhs, multiplier, -1)


def _sum_of_products(x, rhs, windows):
    """Over all offsets, of what the positions meet in x and the kernel; in float32 at least."""
    # Otherwise whatever makes x is computed again for every offset.
    x = lax.optimization_barrier(padded(x, windows))
    wide = jnp.promote_types(x.dtype, jnp.float32)
    kernels = rhs.reshape(-1, *(1,) * (x.ndim - 1), x.shape[-1]).astype(wide)
    parts = shifted(x.astype(wide), windows)
    products = (part * kernel for part, kernel in zip(parts, kernels, strict=True))
    return functools.reduce(operator.add, products)
