"""Convolution whose gradients stay fast inside loops on CPU.

For every sample n, position p, channels i in and o out, and offset q of the kernel, in each of
the spatial axes, with stride s, dilation d and padding l in front:

    y[n, p, o] = Σ_{q, i} x[n, s p + d q − l, i] · w[q, i, o]

    ∂w[q, i, o] = Σ_{n, p} x[n, s p + d q − l, i] · ∂y[n, p, o]
    ∂x[n, r, i] = Σ_{p, q, o : s p + d q − l = r} ∂y[n, p, o] · w[q, i, o]

Both gradients are convolutions themselves. ∂w is a convolution of stride d over x, with batch and
channels exchanged; its kernel is ∂y, dilated by s. ∂x is a convolution over ∂y, dilated by s; its
kernel is w, flipped and with its channels exchanged.

XLA:CPU has a fast convolution for channels last in the image and spatial axes first in the kernel.
`lax` expresses the gradients as convolutions with exchanged axes. Outside of loops XLA inserts the
transposes that lead back to the fast one; inside `lax.scan`, `fori_loop`, `while_loop` and
`lax.map` it does not (jax-ml/jax#12868): there ∂w takes 7 to 53 times as long as outside, ∂x up to
26 times. This module therefore writes the transposes itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bap_jax.types import UserError


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with gradients that are fast in loops on CPU.

    Use it in a Linen module as `nn.Conv(..., conv_general_dilated=conv_general_dilated)`.

    Anything but a plain convolution with channels last is passed on to `lax`, gradients included: a
    dilated `lhs`, groups, other dimension numbers (`None` means channels first), operands of
    different or of integer types, a given type or sharding of the result, arrays without elements.

    Gradients of gradients are those of `lax`. There is no forward mode: `jax.jvp` and
    `jax.linearize` raise a TypeError; `jax.jvp` of `jax.grad` works.

    Args:
      lhs: `(batch, *spatial, in)`.
      rhs: `(*offset, in, out)`.
      window_strides: one for each spatial axis.
      padding: `SAME`, `SAME_LOWER`, `VALID`, or a pair of integers, of any sign, for each axis.
      rhs_dilation: spacing of the kernel's offsets along each axis.
      dimension_numbers: those of channels last, such as `("NHWC", "HWIO", "NHWC")`.
      precision: of the products, in the gradients too.
      lhs_dilation, feature_group_count, batch_group_count, preferred_element_type, out_sharding: as
        in `lax`, to which other values than the default are passed on.

    Returns:
      `(batch, *spatial, out)`.

    Raises:
      TypeError, ValueError, RuntimeError: whatever `lax.conv_general_dilated` raises.

    Example:
      >>> image, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5))
      >>> numbers = ("NHWC", "HWIO", "NHWC")
      >>> conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=numbers).shape
      (1, 4, 4, 5)
    """
    options = {
        "window_strides": window_strides,
        "padding": padding,
        "lhs_dilation": lhs_dilation,
        "rhs_dilation": rhs_dilation,
        "dimension_numbers": dimension_numbers,
        "feature_group_count": feature_group_count,
        "batch_group_count": batch_group_count,
        "precision": precision,
        "preferred_element_type": preferred_element_type,
        "out_sharding": out_sharding,
    }
    if not _is_plain(lhs, rhs, options):
        return lax.conv_general_dilated(lhs, rhs, **options)
    steps = (1,) * (lhs.ndim - 2) if rhs_dilation is None else tuple(rhs_dilation)
    pairs = padding if isinstance(padding, str) else tuple((low, high) for low, high in padding)
    return _convolve(lhs, rhs, _Geometry(tuple(window_strides), pairs, steps, precision))


def _auto(lhs: jax.Array, rhs: jax.Array, *args, **options) -> jax.Array:
    on_cpu = jax.default_backend() == "cpu"
    convolve = conv_general_dilated if on_cpu else lax.conv_general_dilated
    return convolve(lhs, rhs, *args, **options)


CONVOLUTIONS = {"auto": _auto, "loop": conv_general_dilated, "lax": lax.conv_general_dilated}


def convolution(name: str = "auto") -> Callable[..., jax.Array]:
    """The convolution called `name`; all of them have the same forward pass.

    Args:
      name: `loop` (`conv_general_dilated` of this module), `lax` (JAX's own), or `auto`, which is
        `loop` if `jax.default_backend()` is the CPU when the network is traced, `lax` otherwise.

    Raises:
      UserError: the name is unknown.
    """
    if name not in CONVOLUTIONS:
        raise UserError(f"unknown convolution {name!r}; known: {', '.join(CONVOLUTIONS)}.")
    return CONVOLUTIONS[name]


def _is_plain(lhs, rhs, options):
    """Whether the gradients of this module apply; mistakes are left for `lax` to find."""
    axes, padding = lhs.ndim - 2, options["padding"]
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, options["dimension_numbers"])
    return (
        axes > 0
        and tuple(numbers) == _channels_last(axes)
        and all(dilation == 1 for dilation in options["lhs_dilation"] or ())
        and options["feature_group_count"] == options["batch_group_count"] == 1
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and options["preferred_element_type"] in (None, lhs.dtype)
        and options["out_sharding"] is None
        and (isinstance(padding, str) or np.shape(padding) == (axes, 2))
    )


def _channels_last(axes):
    """`ConvDimensionNumbers` of `(batch, *spatial, in)` and `(*offset, in, out)`."""
    spatial = tuple(range(1, axes + 1))
    image = (0, axes + 1, *spatial)
    return image, (axes + 1, axes, *range(axes)), image


class _Geometry(NamedTuple):
    """Strides s, padding and dilations d (`steps`) of a plain convolution, by axis; hashable."""

    strides: tuple[int, ...]
    padding: str | tuple[tuple[int, int], ...]
    steps: tuple[int, ...]
    precision: Any


class _Axis(NamedTuple):
    """A spatial axis: length of x and padding in front of it, and lengths of dilated w and ∂y."""

    size: int
    start: int
    kernel: int
    spread: int


def _value(lhs, rhs, geometry):
    strides, padding, steps, precision = geometry
    return _channels_last_product(lhs, rhs, strides, padding, None, steps, precision)


_convolve = jax.custom_vjp(_value, nondiff_argnums=(2,))


def _forward(lhs, rhs, geometry):
    # Not `_convolve`, which has no forward mode: Hessian-vector products need one.
    return _value(lhs, rhs, geometry), (lhs, rhs)


def _backward(geometry, operands, cotangent):
    lhs, rhs = operands
    if 0 in (*lhs.shape, *rhs.shape, *cotangent.shape):
        return jnp.zeros_like(lhs), jnp.zeros_like(rhs)
    axes = _axes(lhs, rhs, cotangent, geometry)
    return (
        _lhs_gradient(rhs, cotangent, axes, geometry),
        _rhs_gradient(lhs, cotangent, axes, geometry),
    )


_convolve.defvjp(_forward, _backward)


def _lhs_gradient(rhs, cotangent, axes, geometry):
    strides, _, steps, precision = geometry
    # Padding at the end makes the result as large as x. It may be negative.
    padding = [
        (axis.kernel - 1 - axis.start, axis.size + axis.start - axis.spread) for axis in axes
    ]
    flipped = jnp.flip(rhs, tuple(range(len(axes)))).swapaxes(-1, -2)
    ones = (1,) * len(axes)
    return _channels_last_product(cotangent, flipped, ones, padding, strides, steps, precision)


def _rhs_gradient(lhs, cotangent, axes, geometry):
    strides, _, steps, precision = geometry
    padding = [
        (axis.start, axis.kernel - 1 + axis.spread - axis.size - axis.start) for axis in axes
    ]
    channels_first = jnp.swapaxes(lhs, 0, -1)
    batch_inside = jnp.moveaxis(cotangent, 0, -2)
    product = _channels_last_product(
        channels_first, batch_inside, steps, padding, None, strides, precision
    )
    return jnp.moveaxis(product, 0, -2)


def _axes(lhs, rhs, cotangent, geometry):
    strides, padding, steps, _ = geometry
    sizes = lhs.shape[1:-1]
    kernel = [(size - 1) * step + 1 for size, step in zip(rhs.shape[:-2], steps, strict=True)]
    spread = [
        (size - 1) * stride + 1 for size, stride in zip(cotangent.shape[1:-1], strides, strict=True)
    ]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(sizes, kernel, strides, padding)
    starts = [start for start, _ in padding]
    return [_Axis(*numbers) for numbers in zip(sizes, starts, kernel, spread, strict=True)]


def _channels_last_product(lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, precision):
    numbers = lax.ConvDimensionNumbers(*_channels_last(lhs.ndim - 2))
    return lax.conv_general_dilated(
        lhs, rhs, strides, padding, lhs_dilation, rhs_dilation, numbers, precision=precision
    )
