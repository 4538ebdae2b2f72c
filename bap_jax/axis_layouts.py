"""Which axes of an array lie where in a value that was computed from it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


class AxisLayout(NamedTuple):
    """Where the axes of an array lie in a value.

    Attributes:
      axes: for each axis of the value the array's axes along it, the outermost first; none where
        something else varies, or where it is not known.
      stacked: axes of the array of which the value has one index only.
    """

    axes: tuple[tuple[int, ...], ...]
    stacked: frozenset[int] = frozenset()

    @classmethod
    def of(cls, ndim: int) -> "AxisLayout":
        """The array itself."""
        return cls(tuple((axis,) for axis in range(ndim)))

    @classmethod
    def unknown(cls, ndim: int) -> "AxisLayout":
        """A value of which nothing is known."""
        return cls(((),) * ndim)

    def leaf_axes(self, axes: Sequence[int]) -> frozenset[int]:
        """The array's axes along some axes of the value."""
        return frozenset(axis for own in axes for axis in self.axes[own])

    def placed(self, places: Mapping[int, int], ndim: int) -> "AxisLayout":
        """The layout of a value of `ndim` axes, given the new place of each axis that stays."""
        axes: list[tuple[int, ...]] = [()] * ndim
        for old, new in places.items():
            axes[new] = self.axes[old]
        return self._replace(axes=tuple(axes))

    def without_first(self) -> "AxisLayout":
        """One index of the first axis."""
        return AxisLayout(self.axes[1:], self.stacked.union(*self.axes[:1]))

    def with_first(self) -> "AxisLayout":
        """Several such values on one another."""
        return AxisLayout(((), *self.axes), self.stacked)

    def after(self, equation: Any, operand: int, result: Any) -> "AxisLayout":
        """The layout of a result, for an equation that has this value as one of its operands."""
        before, ndim = equation.invars[operand].aval.shape, result.aval.ndim
        name = equation.primitive.name
        if name == "stack":
            places = [axis for axis in range(ndim) if axis != equation.params["axis"] % ndim]
            return self.placed(dict(enumerate(places)), ndim)
        if name in _RULES and operand == 0:
            return _RULES[name](self, equation.params, before, result.aval.shape)
        if name.startswith("reduce_") or name in ("argmax", "argmin"):
            return _without(self, equation.params["axes"])
        return self if ndim == len(before) else AxisLayout.unknown(ndim)


def joined_layouts(one: AxisLayout | None, other: AxisLayout) -> AxisLayout:
    """The layout of a value that reaches a result twice: the one of which more is known."""
    if one is None:
        return other
    known = [sum(map(bool, layout.axes)) for layout in (one, other)]
    if known[0] != known[1]:
        return one if known[0] > known[1] else other
    return same_or_unknown(one, other)


def same_or_unknown(one: AxisLayout, other: AxisLayout) -> AxisLayout:
    """The layout, where two agree."""
    return one if one == other else AxisLayout.unknown(len(one.axes))


def _transpose(layout, params, before, after):
    del before, after
    return layout._replace(axes=tuple(layout.axes[i] for i in params["permutation"]))


def _broadcast(layout, params, before, after):
    pairs = enumerate(params["broadcast_dimensions"])
    same = {old: int(new) for old, new in pairs if before[old] == after[new]}
    return layout.placed(same, len(after))


def _without(layout, dimensions):
    dimensions = {int(axis) % len(layout.axes) for axis in dimensions}
    kept = tuple(own for axis, own in enumerate(layout.axes) if axis not in dimensions)
    return layout._replace(axes=kept)


def _squeeze(layout, params, before, after):
    del before, after
    return _without(layout, params["dimensions"])


def _unstack(layout, params, before, after):
    del after
    axis = params["axis"] % len(before)
    return _without(layout, [axis])._replace(stacked=layout.stacked.union(layout.axes[axis]))


def _slice(layout, params, before, after):
    """A single index leaves the axis; a longer piece is still the same axis."""
    del params
    single = [axis for axis, size in enumerate(after) if size == 1 < before[axis]]
    axes = tuple(() if axis in single else own for axis, own in enumerate(layout.axes))
    return AxisLayout(axes, layout.stacked | layout.leaf_axes(single))


def _gather(layout, params, before, after):
    """Rows that are chosen by indices which do not depend on the inputs."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    left = [axis for axis in range(len(before)) if axis not in gone]
    layout = _slice(layout, params, before, sizes)
    return layout.placed(dict(zip(left, numbers.offset_dims, strict=True)), len(after))


def _reshape(layout, params, before, after):
    """Merged axes are known by all their parts, and each part of a split axis by the whole."""
    order = params["dimensions"]
    if order is not None:
        layout = layout._replace(axes=tuple(layout.axes[i] for i in order))
        before = tuple(before[i] for i in order)
    axes: list[tuple[int, ...]] = []
    for old, new in _blocks(before, after):
        merged = tuple(axis for own in layout.axes[old] for axis in own)
        axes += [merged if size > 1 else () for size in after[new]]
    return layout._replace(axes=tuple(axes))


def _blocks(before, after):
    """Slices of two shapes with equal products, as short as possible."""
    if 0 in before:
        yield slice(0, len(before)), slice(0, len(after))
        return
    i = j = 0
    while i < len(before) or j < len(after):
        start = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (gap := math.prod(before[start[0] : i]) - math.prod(after[start[1] : j])) != 0:
            i, j = (i + 1, j) if gap < 0 else (i, j + 1)
        yield slice(start[0], i), slice(start[1], j)


_RULES: dict[str, Callable[..., AxisLayout]] = {
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "unstack": _unstack,
    "slice": _slice,
    "split": _slice,
    "dynamic_slice": _slice,
    "gather": _gather,
    "reshape": _reshape,
}
