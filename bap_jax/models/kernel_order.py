"""The order in which a network uses its kernels, read from its traced program.

Names do not show the order: a layer called `head` sorts before one called `hidden`. The program
does. Every value in it either derives from parameters alone (kernels that were reshaped, cast,
masked, joined or normalised) and then represents them, or depends on the inputs and then represents
none.
"""

from typing import NamedTuple

import jax
from jax.extend import core

from bap_jax.models.base import Model
from bap_jax.models.convolution import is_convolution
from bap_jax.models.jaxprs import inner_jaxprs
from bap_jax.types import PyTree, Variables

_MIXED = frozenset({-1})  # depends on the inputs


class KernelUse(NamedTuple):
    """A parameter that multiplies activations.

    Attributes:
      leaf: index into `jax.tree.leaves(params)`.
      convolution: whether a convolution uses it; otherwise a matrix product does.
    """

    leaf: int
    convolution: bool


def kernel_order(model: Model, variables: Variables, inputs: PyTree) -> list[KernelUse]:
    """The parameters that multiply activations, in order of first use.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`, an array or a pytree of arrays; only the shapes matter.
    """
    leaves, structure = jax.tree.flatten(variables.params)

    def forward(leaves, inputs):
        params = jax.tree.unflatten(structure, leaves)
        return model.apply(Variables(params, variables.state), inputs, train=False, key=None)[0]

    jaxpr = jax.make_jaxpr(forward)(leaves, inputs).jaxpr
    origins = [frozenset({i}) for i in range(len(leaves))]
    origins += [_MIXED] * len(jax.tree.leaves(inputs))
    walk = _Walk()
    walk.follow(jaxpr, dict(zip(jaxpr.invars, origins, strict=True)))
    return list(walk.uses.values())


class _Walk:
    """Follows values through a program, and collects the uses of parameters.

    `origin` maps a variable to the set of leaves that it derives from, or to `_MIXED`; a variable
    that is not in it is constant. A list of sources holds the same for a list of values, with None
    for constants.
    """

    def __init__(self):
        self.uses = {}

    def follow(self, jaxpr, origin):
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
            return self._product(name != "dot_general", inputs)
        if name in ("scan", "while"):
            return self._loop(equation, inputs)
        results = [self._call(inner, inputs) for inner in _jaxprs(equation)]
        return results[0] if results else [self._join(inputs)]

    def _product(self, convolution, inputs):
        joined = self._join(inputs)
        if joined == _MIXED:
            for source in inputs:
                for leaf in sorted((source or frozenset()) - _MIXED):
                    self.uses.setdefault(leaf, KernelUse(leaf, convolution))
        return [joined]

    def _loop(self, equation, inputs):
        """Follows a loop until the sources of its carry no longer change."""
        params = equation.params
        if equation.primitive.name == "scan":
            body = params["jaxpr"].jaxpr
            size = _num_whole(equation.outvars, body.outvars)
            start = _num_whole(equation.invars, body.invars) - size
        else:
            body, size = params["body_jaxpr"].jaxpr, len(equation.outvars)
            start = len(inputs) - size
        while True:
            outputs = self._call(body, inputs)
            carry = inputs[start : start + size]
            joined = [self._join(pair) for pair in zip(carry, outputs[:size], strict=True)]
            if joined == carry:
                return outputs
            inputs = [*inputs[:start], *joined, *inputs[start + size :]]

    def _call(self, jaxpr, inputs):
        # Operands align at the end: `cond` has an index before them, `while` its test's constants.
        variables = jaxpr.invars[-len(inputs) :] if inputs else []
        pairs = zip(variables, inputs[len(inputs) - len(variables) :], strict=True)
        return self.follow(jaxpr, {name: source for name, source in pairs if source is not None})

    def _join(self, sources):
        known = [source for source in sources if source is not None]
        if _MIXED in known:
            return _MIXED
        return frozenset().union(*known) if known else None


def _num_whole(outside, inside):
    """How many values a scan's body sees as they are, without an axis of steps taken off."""
    pairs = zip(outside, inside, strict=True)
    return sum(outer.aval.ndim == inner.aval.ndim for outer, inner in pairs)


def _jaxprs(equation):
    """Every program of an equation, those with the most results first."""
    return sorted(inner_jaxprs(equation), key=lambda jaxpr: -len(jaxpr.outvars))
