"""Whether weights can be removed in a shape: read from shapes alone, before anything is trained."""

from collections.abc import Mapping, Sequence

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning.layers import Axes, layer_axes, matrix_shape, within_layers
from bap_jax.pruning.sparsity_types import Block, Channel, NByM, SparsityType

_LEAVE_OUT = "leave the tensor out with filter_fn (in settings: pruning.prunable)"


def check_shape(
    name: str,
    shape: Sequence[int],
    sparsity_type: SparsityType,
    kernel_axes: Mapping[str, KernelAxes] | None,
) -> None:
    """Checks that weights of a tensor can be removed in the shapes of a type.

    Args:
      name: path of the tensor.
      shape: its shape.
      sparsity_type: shapes in which weights go.
      kernel_axes: from `pruning.kernel_axes`; None where there is none.

    Raises:
      UserError: they cannot; the message names the tensor.
    """
    axes = (kernel_axes or {}).get(name)
    if isinstance(sparsity_type, NByM):
        if sparsity_type.axis is None and axes is None and kernel_axes is not None:
            raise UserError(
                f"N:M sparsity lies along the inputs of a product, and no product of the network "
                f"uses {name!r}, a tensor of shape {tuple(shape)}: {_LEAVE_OUT}."
            )
        axes = within_layers(sparsity_type, axes, shape)[1]
        layer = axes.layer_shape(shape) if axes else shape
        check_n_by_m(layer, layer_axes(axes), sparsity_type, name)
    if isinstance(sparsity_type, Channel) and sparsity_type.axis is not None:
        check_channel(shape, sparsity_type.axis, name)


def check_n_by_m(shape: Sequence[int], axes: Axes, sparsity_type: NByM, name: str = "") -> None:
    """Checks a layer's shape for N:M.

    Args:
      shape: of one layer.
      axes: of the layer; None where they are not known.
      sparsity_type: N, M and the axis.
      name: of the tensor, for the error.

    Raises:
      UserError: there is no such axis, its length is not divisible by M, or the shape does not
        show which axes hold the inputs.
    """
    n, m, axis = sparsity_type
    start, tensor = f"N:M sparsity with m = {m}", _described(name, shape)
    if axis is None and axes is not None:
        length, along = matrix_shape(shape, axes)[1], "its inputs"
    elif axis is None and len(shape) == 3:
        raise UserError(
            f"{start}: which axes of {tensor} hold the inputs depends on the product that uses it. "
            "Pass the updater kernel_axes=pruning.kernel_axes(apply, params, inputs), which reads "
            f"them from the network, write NByM({n}, {m}, axis), or {_LEAVE_OUT}."
        )
    else:
        axis = -2 if axis is None else axis
        _check_axis(shape, axis, f"{start} along axis {axis}", tensor)
        length, along = shape[axis], f"axis {axis}"
    if length % m:
        raise UserError(
            f"{start} along {along}: {tensor} has {length} there, which is not divisible by "
            f"M = {m}. Choose another axis, or {_LEAVE_OUT}."
        )


def check_channel(shape: Sequence[int], axis: int, name: str = "") -> None:
    """Checks that a tensor has the axis along which channels lie; raises `UserError` if not."""
    _check_axis(shape, axis, f"channel axis {axis}", _described(name, shape))


def check_units(
    name: str, sparsity_type: SparsityType, units: int, kept: int, sparsity: float
) -> None:
    """Checks that blocks or channels are small enough for a sparsity.

    Args:
      name: path of the tensor.
      sparsity_type: shapes in which weights go.
      units: how many blocks or channels a layer has.
      kept: how many of them stay.
      sparsity: that is asked for.

    Raises:
      UserError: a whole tensor would go, or nothing of it can.
    """
    is_pooled = isinstance(sparsity_type, Block | Channel)
    if not is_pooled or sparsity == 0 or 0 < kept < units or (kept == units > 1):
        return
    is_block = isinstance(sparsity_type, Block)
    kind, remedy = ("blocks", "smaller blocks or ") if is_block else ("channels", "")
    raise UserError(
        f"at sparsity {sparsity:g} {kept} of the {units} {kind} of {name!r} would stay: "
        f"{sparsity_type} is too coarse for this tensor. Use {remedy}a lower sparsity, or "
        f"{_LEAVE_OUT}."
    )


def _described(name, shape):
    tensor = f"{name!r}, a tensor" if name else "a tensor"
    return f"{tensor} of shape {tuple(shape)},"


def _check_axis(shape, axis, start, tensor):
    if not -len(shape) <= axis < len(shape):
        raise UserError(f"{start}: {tensor} has no such axis. Choose another, or {_LEAVE_OUT}.")
