"""Convolution whose forward pass and gradients are fast on a CPU, inside loops as well.

For every sample n, position p, channels i in and o out, and offset q of the kernel, in each of
the spatial axes, with stride s, dilation d and padding l in front:

    y[n, p, o] = Σ_{q, i} x[n, s p + d q − l, i] · w[q, i, o]

    ∂w[q, i, o] = Σ_{n, p} x[n, s p + d q − l, i] · ∂y[n, p, o]
    ∂x[n, r, i] = Σ_{p, q, o : s p + d q − l = r} ∂y[n, p, o] · w[q, i, o]

XLA:CPU has a fast convolution for channels last in the image and spatial axes first in the kernel.
`lax` expresses the gradients as convolutions with exchanged axes, which have to be transposed;
inside `lax.scan`, `fori_loop`, `while_loop` and `lax.map` XLA does not even do that
(jax-ml/jax#12868). Here every part has the form that is fast:

    y    `few_channels`: with few output channels, several positions at a time
    ∂w   `kernel_gradient`: matrix products of ∂y and patches of x, some rows at a time
    ∂x   a convolution over ∂y, dilated by s; its kernel is w, flipped, with its channels exchanged

A depthwise convolution is `depthwise`: sums of shifted images, which XLA compiles to one loop.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bap_jax.errors import UserError
from bap_jax.models.depthwise import depthwise, depthwise_gradients
from bap_jax.models.few_channels import channels_last, channels_last_product
from bap_jax.models.kernel_gradient import kernel_gradient
from bap_jax.models.windows import Window


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
    """`jax.lax.conv_general_dilated` in a form that is fast on a CPU, inside loops as well.

    Use it in a Linen module as `nn.Conv(..., conv_general_dilated=conv_general_dilated)`.

    Anything but a plain or a depthwise convolution with channels last is passed on to `lax`,
    gradients included: a dilated `lhs`, other groups, other dimension numbers (`None` means
    channels first), operands of different or of integer types, a given type or sharding of the
    result, arrays without elements.

    Results are those of `lax` except for rounding; an infinite or undefined number in `lhs` may
    reach more neighbours. There is no forward mode: `jax.jvp` and `jax.linearize` raise a
    TypeError; `jax.jvp` of `jax.grad` and gradients of gradients work.

    Args:
      lhs: `(batch, *spatial, in)`.
      rhs: `(*offset, in, out)`, or `(*offset, 1, out)` if every channel is convolved by itself.
      window_strides: one for each spatial axis.
      padding: `SAME`, `SAME_LOWER`, `VALID`, or a pair of integers, of any sign, for each axis.
      rhs_dilation: spacing of the kernel's offsets along each axis.
      dimension_numbers: those of channels last, such as `("NHWC", "HWIO", "NHWC")`.
      precision: of the products, in the gradients too.
      feature_group_count: 1, or the number of input channels; others are passed on to `lax`.
      lhs_dilation, batch_group_count, preferred_element_type, out_sharding: as in `lax`, to which
        other values than the default are passed on.

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
    # Also finds every mistake, with the errors of `lax`.
    result = jax.eval_shape(functools.partial(lax.conv_general_dilated, **options), lhs, rhs)
    if not _is_covered(lhs, rhs, options) or 0 in (*lhs.shape, *rhs.shape, *result.shape):
        return lax.conv_general_dilated(lhs, rhs, **options)
    windows = _windows(lhs, rhs, result, options)
    return _convolve(lhs, rhs, _Geometry(windows, feature_group_count > 1, precision))


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


def _is_covered(lhs, rhs, options):
    """Whether the forms of this module apply."""
    axes, groups = lhs.ndim - 2, options["feature_group_count"]
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, options["dimension_numbers"])
    return (
        axes > 0
        and numbers == channels_last(axes)
        and all(dilation == 1 for dilation in options["lhs_dilation"] or ())
        and groups in (1, lhs.shape[-1])
        and options["batch_group_count"] == 1
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
        and options["preferred_element_type"] in (None, lhs.dtype)
        and options["out_sharding"] is None
    )


class _Geometry(NamedTuple):
    """What a convolution is besides its operands; hashable."""

    windows: tuple[Window, ...]
    depthwise: bool
    precision: Any


def _windows(lhs, rhs, result, options):
    axes = lhs.ndim - 2
    sizes, offsets, positions = lhs.shape[1:-1], rhs.shape[:-2], result.shape[1:-1]
    strides, steps = options["window_strides"], options["rhs_dilation"] or (1,) * axes
    padding = options["padding"]
    if isinstance(padding, str):
        dilated = [(count - 1) * step + 1 for count, step in zip(offsets, steps, strict=True)]
        padding = lax.padtype_to_pads(sizes, dilated, strides, padding)
    starts = [int(start) for start, _ in padding]
    columns = zip(sizes, starts, offsets, positions, strides, steps, strict=True)
    return tuple(Window(*numbers) for numbers in columns)


# A compiled function, so that readers of a program see one convolution: `jaxprs.is_convolution`.
@functools.partial(jax.jit, static_argnums=2)
def convolve_channels_last(lhs: jax.Array, rhs: jax.Array, geometry: _Geometry) -> jax.Array:
    """y `(batch, *position, out)`."""
    if geometry.depthwise:
        return depthwise(lhs, rhs, geometry.windows)
    return channels_last_product(lhs, rhs, geometry.windows, None, geometry.precision)


_convolve = jax.custom_vjp(convolve_channels_last, nondiff_argnums=(2,))


def _forward(lhs, rhs, geometry):
    # Not `_convolve`, which has no forward mode: Hessian-vector products need one.
    return convolve_channels_last(lhs, rhs, geometry), (lhs, rhs)


def _backward(geometry, operands, cotangent):
    lhs, rhs = operands
    windows, is_depthwise, precision = geometry
    if is_depthwise:
        return depthwise_gradients(lhs, rhs, cotangent, windows)
    return (
        _lhs_gradient(rhs, cotangent, windows, precision),
        kernel_gradient(lhs, cotangent, windows, precision),
    )


_convolve.defvjp(_forward, _backward)


def _lhs_gradient(rhs, cotangent, windows, precision):
    flipped = jnp.flip(rhs, tuple(range(len(windows)))).swapaxes(-1, -2)
    strides = tuple(window.stride for window in windows)
    dilation = None if set(strides) == {1} else strides
    transposed = [window.transposed() for window in windows]
    return channels_last_product(cotangent, flipped, transposed, dilation, precision)
