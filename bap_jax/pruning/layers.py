"""A kernel as the layers that are stacked in it, and a layer as a matrix of inputs and outputs.

    leaf ─► one array for each stacked layer ─► (offset, input, output) ─► mask ─► back

Weights of different layers are never ranked against each other. Which axes stack layers, which hold
inputs and which outputs is read from the product that uses the kernel, see `kernel_axes`; without
that a leaf is one layer, whose last axis holds outputs and the one before it inputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes, axes_by_path, kernel_uses
from bap_jax.pruning.sparsity_types import Block, Channel, NByM, SparsityType
from bap_jax.trees import leaf_paths
from bap_jax.types import Array, PyTree

Axes = KernelAxes | None


def kernel_axes(
    apply: Callable[..., Any], params: PyTree, *inputs: PyTree
) -> Mapping[str, KernelAxes]:
    """What each axis of each kernel does in the product that uses it first.

    Updaters take the result as `kernel_axes=`. N:M, blocks and channels then lie along the inputs
    and outputs of each kernel, of attention and of transposed convolutions too, and layers that
    `nn.scan`, `nnx.scan` or `vmap` stack in one array are pruned each by itself.

    Args:
      apply: `(params, *inputs) -> ` the network's outputs; it is traced and not computed.
      params: its parameters.
      *inputs: trees of arrays; only their shapes matter.

    Returns:
      By path, for the leaves that a matrix product or a convolution uses.

    Raises:
      UserError: no product uses any of the parameters.

    Example:
      >>> params = {"query": jnp.ones((8, 2, 4)), "out": jnp.ones((2, 4, 8))}
      >>> def apply(params, x):
      ...     heads = jnp.einsum("bi,ihd->bhd", x, params["query"])
      ...     return jnp.einsum("bhd,hdo->bo", heads, params["out"])
      >>> axes = kernel_axes(apply, params, jnp.ones((3, 8)))
      >>> axes["query"].inputs, axes["out"].inputs
      ((0,), (0, 1))
    """
    paths = leaf_paths(params)
    axes = axes_by_path(paths, kernel_uses(apply, params, *inputs))
    if not axes:
        raise UserError(
            "no matrix product or convolution of `apply` uses any of these parameters: "
            f"{', '.join(paths) or 'there are none'}."
        )
    return axes


def within_layers(
    sparsity_type: SparsityType, axes: Axes, shape: Sequence[int]
) -> tuple[SparsityType, Axes]:
    """The type for the layers of a tensor, and the tensor's axes; None where it stays in one piece.

    A type that names an axis means that of the whole tensor.

    Args:
      sparsity_type: of the tensor.
      axes: of the tensor.
      shape: of the tensor.
    """
    if axes is None or not axes.stacked:
        return sparsity_type, axes
    if 0 in shape or (isinstance(sparsity_type, Block) and sparsity_type.leading):
        return sparsity_type, None
    if not isinstance(sparsity_type, NByM | Channel) or sparsity_type.axis is None:
        return sparsity_type, axes
    axis = sparsity_type.axis % len(shape)
    if isinstance(sparsity_type, NByM) or axis in axes.stacked:
        return sparsity_type, None
    before = sum(other < axis for other in axes.stacked)
    return sparsity_type._replace(axis=axis - before), axes


def num_layers(leaf: Array, axes: Axes) -> int:
    """How many layers are stacked in a leaf."""
    return max(axes.num_layers(leaf.shape), 1) if axes else 1


def split_layers(leaf: Array, axes: Axes) -> list[Array]:
    """The layers that are stacked in a leaf; the leaf itself where none are."""
    if not (axes and axes.stacked) or 0 in leaf.shape:
        return [leaf]
    front = jnp.moveaxis(leaf, axes.stacked, range(len(axes.stacked)))
    return list(front.reshape(-1, *axes.layer_shape(leaf.shape)))


def join_layers(layers: Sequence[Array], shape: Sequence[int], axes: Axes) -> Array:
    """The inverse of `split_layers`, for a leaf of this shape."""
    if not (axes and axes.stacked) or 0 in shape:
        return layers[0]
    counts = [shape[axis] for axis in axes.stacked]
    front = jnp.stack(layers).reshape(*counts, *axes.layer_shape(shape))
    return jnp.moveaxis(front, range(len(axes.stacked)), axes.stacked)


def on_layers(
    function: Callable[..., Sequence[Array]], axes: Sequence[Axes], *columns: Sequence[Array]
) -> list[Array]:
    """What a function of lists of arrays makes of single layers, joined to arrays as they came in.

    Args:
      function: `(layers, …) -> ` one array for each layer, of its shape.
      axes: of each array.
      *columns: lists of arrays, those in one place of one shape.
    """
    layers = [
        [split_layers(leaf, own) for leaf, own in zip(column, axes, strict=True)]
        for column in columns
    ]
    results = iter(function(*([one for leaf in column for one in leaf] for column in layers)))
    return [
        join_layers([next(results) for _ in parts], leaf.shape, own)
        for parts, leaf, own in zip(layers[0], columns[0], axes, strict=True)
    ]


def layer_axes(axes: Axes) -> Axes:
    """The axes of one of the layers that are stacked in a leaf."""
    if axes is None:
        return None

    def without_stacked(own):
        return tuple(axis - sum(other < axis for other in axes.stacked) for axis in own)

    return KernelAxes(without_stacked(axes.inputs), without_stacked(axes.outputs))


def matrix_shape(shape: Sequence[int], axes: Axes) -> tuple[int, int, int]:
    """Numbers of offsets, inputs and outputs of a layer; a vector is one input."""
    if axes is None:
        shape = (1, 1, *shape)
        return math.prod(shape[:-2]), shape[-2], shape[-1]
    inputs = math.prod(shape[axis] for axis in axes.inputs)
    outputs = math.prod(shape[axis] for axis in axes.outputs)
    return math.prod(shape) // max(inputs * outputs, 1), inputs, outputs


def as_matrices(layer: Array, axes: Axes) -> tuple[Array, Callable[[Array], Array]]:
    """A layer with its inputs along the axis before the last and its outputs along the last.

    Args:
      layer: not stacked.
      axes: its axes.

    Returns:
      `(offset, input, output)`, several axes of one kind joined in the order in which they lie in
      memory; and a function that brings such an array into the shape of the layer. A layer that
      already ends in one input and one output axis stays as it is.
    """
    last = layer.ndim - 1
    if axes is None or (axes.inputs, axes.outputs) == ((last - 1,), (last,)):
        return layer, lambda matrices: matrices
    used = (*axes.inputs, *axes.outputs)
    order = [axis for axis in range(layer.ndim) if axis not in used] + list(used)
    moved = jnp.transpose(layer, order)
    back = sorted(range(layer.ndim), key=order.__getitem__)

    def in_place(matrices):
        return jnp.transpose(matrices.reshape(moved.shape), back)

    return moved.reshape(matrix_shape(layer.shape, axes)), in_place
