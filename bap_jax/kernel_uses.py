"""Which parameters multiply activations, in which order, and what each of their axes does there.

Names do not show the order: a layer called `head` sorts before one called `hidden`. Shapes do not
show what an axis does: `(8, 2, 4)` may be inputs, heads and features, or heads, features and
outputs, or three layers on one another. The traced program shows both. Every value in it either
derives from parameters alone (kernels that were reshaped, cast, masked, joined or normalised), and
then represents them, or depends on the inputs and then represents none.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core

from bap_jax.axis_layouts import AxisLayout, joined_layouts, same_or_unknown
from bap_jax.jaxprs import inner_jaxprs, is_convolution
from bap_jax.types import PyTree


class KernelAxes(NamedTuple):
    """What the axes of a kernel do in the first product that uses it.

    Axes that are named nowhere are offsets of a convolution, or have length 1.

    Attributes:
      inputs: over which the product sums.
      outputs: that its result has.
      stacked: along which layers lie on one another, each index a layer of its own.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stacked: tuple[int, ...] = ()

    def layer_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one layer."""
        return tuple(size for axis, size in enumerate(shape) if axis not in self.stacked)

    def num_layers(self, shape: Sequence[int]) -> int:
        """How many layers a tensor of this shape holds."""
        return math.prod(shape[axis] for axis in self.stacked)


class KernelUse(NamedTuple):
    """A parameter that multiplies activations.

    Attributes:
      leaf: index into `jax.tree.leaves(params)`.
      convolution: whether a convolution uses it; otherwise a matrix product does.
      axes: what its axes do there; None where the program does not show it.
    """

    leaf: int
    convolution: bool
    axes: KernelAxes | None = None


def kernel_uses(function: Callable[..., Any], params: PyTree, *inputs: PyTree) -> list[KernelUse]:
    """The parameters that multiply activations, in order of first use.

    Args:
      function: `(params, *inputs) -> ` anything; it is traced.
      params: the parameters.
      *inputs: trees of arrays; only their shapes matter.
    """
    leaves, structure = jax.tree.flatten(params)

    def forward(leaves, inputs):
        return function(jax.tree.unflatten(structure, leaves), *inputs)

    jaxpr = jax.make_jaxpr(forward)(leaves, inputs).jaxpr
    sources: list[Any] = [{i: AxisLayout.of(leaf.ndim)} for i, leaf in enumerate(leaves)]
    sources += [_MIXED] * (len(jaxpr.invars) - len(leaves))
    walk = _Walk()
    walk.follow(jaxpr, dict(zip(jaxpr.invars, sources, strict=True)))
    return list(walk.uses.values())


class _Mixed:
    """Stands for a value that depends on the inputs."""


_MIXED = _Mixed()
# What a value derives from: a layout for each leaf, or the inputs, or (None) constants alone.
_Source = dict[int, AxisLayout] | _Mixed | None


class _Walk:
    """Follows values through a program, and collects the uses of parameters.

    `origin` maps a variable to its source; a variable that is not in it is constant.
    """

    def __init__(self):
        self.uses: dict[int, KernelUse] = {}

    def follow(self, jaxpr, origin) -> list[_Source]:
        """Sources of the results of `jaxpr`; adds to `origin` and `uses` on the way."""
        for equation in jaxpr.eqns:
            outputs = self._outputs(equation, self._sources(equation.invars, origin))
            outputs = [outputs[0]] * len(equation.outvars) if len(outputs) == 1 else outputs
            variables = equation.outvars[len(equation.outvars) - len(outputs) :]
            for variable, source in zip(variables, outputs[-len(variables) :], strict=True):
                if source is not None:
                    origin[variable] = source
        return self._sources(jaxpr.outvars, origin)

    def _sources(self, variables, origin):
        return [None if isinstance(v, core.Literal) else origin.get(v) for v in variables]

    def _outputs(self, equation, inputs):
        """Sources of an equation's results; a single one stands for all of them."""
        name = equation.primitive.name
        if name == "dot_general" or is_convolution(equation):
            return [self._product(equation, inputs)]
        if name in ("scan", "while"):
            return self._loop(equation, inputs)
        results = [self._call(inner, inputs) for inner in _jaxprs(equation)]
        return results[0] if results else _elementwise(equation, inputs)

    def _product(self, equation, inputs):
        roles = _roles(equation)
        if _MIXED not in inputs:
            return _product_of_parameters(equation, inputs, roles)
        for source, own in zip(inputs, roles, strict=False):
            for leaf in sorted(source) if isinstance(source, dict) else ():
                axes = own and _axes(source[leaf], own)
                self.uses.setdefault(leaf, KernelUse(leaf, is_convolution(equation), axes))
        return _MIXED

    def _loop(self, equation, inputs):
        """Follows a loop until the sources of its carry no longer change."""
        params, is_scan = equation.params, equation.primitive.name == "scan"
        body = params["jaxpr" if is_scan else "body_jaxpr"].jaxpr
        size, start = len(equation.outvars), len(inputs) - len(equation.outvars)
        if is_scan:
            size = _num_whole(equation.outvars, body.outvars)
            start = _num_whole(equation.invars, body.invars) - size
            inputs = [*inputs[: start + size], *map(_step_of, inputs[start + size :])]
        while True:
            outputs = self._call(body, inputs)
            carry = inputs[start : start + size]
            merged = [_merged(*pair) for pair in zip(carry, outputs[:size], strict=True)]
            if merged == carry:
                return [*outputs[:size], *map(_all_steps_of, outputs[size:])]
            inputs = [*inputs[:start], *merged, *inputs[start + size :]]

    def _call(self, jaxpr, inputs):
        # Operands align at the end: `cond` has an index before them, `while` its test's constants.
        variables = jaxpr.invars[-len(inputs) :] if inputs else []
        pairs = zip(variables, inputs[len(inputs) - len(variables) :], strict=True)
        return self.follow(jaxpr, {name: source for name, source in pairs if source is not None})


class _Roles(NamedTuple):
    """What the axes of one operand do in a product."""

    summed: tuple[int, ...]
    kept: tuple[int, ...]
    batch: tuple[int, ...] = ()


def _roles(equation) -> tuple[_Roles | None, ...]:
    """The roles of both operands' axes."""
    if equation.primitive.name != "dot_general":
        return None, _of_convolution(equation)
    (summed, batch) = equation.params["dimension_numbers"]
    sides = zip(summed, batch, equation.invars, strict=True)
    return tuple(
        _Roles(
            tuple(own), tuple(i for i in range(x.aval.ndim) if i not in (*own, *shared)), (*shared,)
        )
        for own, shared, x in sides
    )


def _of_convolution(equation):
    numbers, ndim = equation.params.get("dimension_numbers"), equation.invars[1].aval.ndim
    out, into = numbers.rhs_spec[:2] if numbers else (ndim - 1, ndim - 2)
    return _Roles((into,), (out,))


def _axes(layout: AxisLayout, roles: _Roles) -> KernelAxes | None:
    """What the axes of a leaf do, given what those of a value made from it do."""
    inputs, outputs, batch = (layout.leaf_axes(own) for own in roles)
    stacked = (layout.stacked | batch) - inputs
    outputs = outputs - inputs - stacked
    if not inputs:
        return None
    before = {axis for axis in outputs if axis < min(inputs)}
    if before and before != outputs:  # `vmap` over a kernel whose inputs are the same for all
        stacked, outputs = stacked | before, outputs - before
    return KernelAxes(tuple(sorted(inputs)), tuple(sorted(outputs)), tuple(sorted(stacked)))


def _product_of_parameters(equation, inputs, roles):
    """The source of a product that no input enters, as in a low-rank kernel."""
    ndim, found = equation.outvars[0].aval.ndim, {}
    sides = [own for own in roles if own is not None]
    if len(sides) != 2:
        return _joined(
            [source and {leaf: AxisLayout.unknown(ndim) for leaf in source} for source in inputs]
        )
    first = len(sides[0].batch)
    for source, own in zip(inputs, sides, strict=True):
        free = range(first, first + len(own.kept))
        first += len(own.kept)
        places = dict(zip(own.batch, range(len(own.batch)), strict=True))
        places |= dict(zip(own.kept, free, strict=True))
        for leaf, layout in (source or {}).items():
            found[leaf] = joined_layouts(found.get(leaf), layout.placed(places, ndim))
    return found or None


def _elementwise(equation, inputs):
    """Sources of the results of an equation that has no program inside."""
    if _MIXED in inputs:
        return [_MIXED]
    results = []
    for result in equation.outvars:
        moved = [
            source and {leaf: layout.after(equation, i, result) for leaf, layout in source.items()}
            for i, source in enumerate(inputs)
        ]
        results.append(_joined(moved))
    return results


def _joined(sources: Sequence[_Source]) -> _Source:
    """The source of a value that is made of several."""
    if _MIXED in sources:
        return _MIXED
    found: dict[int, AxisLayout] = {}
    for source in sources:
        for leaf, layout in source.items() if isinstance(source, dict) else ():
            found[leaf] = joined_layouts(found.get(leaf), layout)
    return found or None


def _merged(before: _Source, after: _Source) -> _Source:
    """The source of a loop's carry, which is `before` in one step and `after` in the next."""
    if _MIXED in (before, after):
        return _MIXED
    found = dict(before) if isinstance(before, dict) else {}
    for leaf, layout in after.items() if isinstance(after, dict) else ():
        found[leaf] = same_or_unknown(found[leaf], layout) if leaf in found else layout
    return found or None


def _step_of(source):
    """What a scan's body sees of a value that it takes apart along the first axis."""
    return _mapped(source, AxisLayout.without_first)


def _all_steps_of(source):
    return _mapped(source, AxisLayout.with_first)


def _mapped(source, function):
    if not isinstance(source, dict):
        return source
    return {leaf: function(layout) for leaf, layout in source.items()}


def _num_whole(outside, inside):
    """How many values a scan's body sees as they are, without an axis of steps taken off."""
    pairs = zip(outside, inside, strict=True)
    return sum(outer.aval.ndim == inner.aval.ndim for outer, inner in pairs)


def _jaxprs(equation):
    """Every program of an equation, those with the most results first."""
    return sorted(inner_jaxprs(equation), key=lambda jaxpr: -len(jaxpr.outvars))


def axes_by_path(paths: Sequence[str], uses: Sequence[KernelUse]) -> Mapping[str, KernelAxes]:
    """The axes of the kernels that show them, by path."""
    return {paths[use.leaf]: use.axes for use in uses if use.axes is not None}
