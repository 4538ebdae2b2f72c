"""In which order a network uses its kernels, read off its traced program.

Names do not tell: a layer called `head` sorts before one called `hidden`. The program does. Every
value in it either derives from parameters alone (kernels that were reshaped, cast, masked, joined
or normalised), and then stands for them, or depends on the inputs, and then stands for none.
"""

from typing import NamedTuple

import jax
from jax.extend import core

from bap_jax.models.base import Model
from bap_jax.types import Array, Variables

_PRODUCTS = ("dot_general", "conv_general_dilated")
_MIXED = frozenset({-1})  # depends on the inputs


class KernelUse(NamedTuple):
    """A parameter that multiplies activations.

    Attributes:
      leaf: index into `jax.tree.leaves(params)`.
      convolution: whether a convolution uses it, else a matrix product.
    """

    leaf: int
    convolution: bool


def kernel_order(model: Model, variables: Variables, inputs: Array) -> list[KernelUse]:
    """The parameters that multiply activations, in order of first use.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`; only the shape matters.
    """
    leaves, structure = jax.tree.flatten(variables.params)

    def forward(leaves, inputs):
        params = jax.tree.unflatten(structure, leaves)
        return model.apply(Variables(params, variables.state), inputs, train=False, key=None)[0]

    jaxpr = jax.make_jaxpr(forward)(leaves, inputs).jaxpr
    origins = [*(frozenset({i}) for i in range(len(leaves))), _MIXED]
    walk = _Walk()
    walk.follow(jaxpr, dict(zip(jaxpr.invars, origins, strict=True)))
    return list(walk.uses.values())


class _Walk:
    """Collects uses while it follows `origin`: variable → set of leaves, `_MIXED`, or absent where
    the value is constant."""

    def __init__(self):
        self.uses = {}

    def follow(self, jaxpr, origin):
        for equation in jaxpr.eqns:
            known = [
                None if isinstance(v, core.Literal) else origin.get(v) for v in equation.invars
            ]
            if equation.primitive.name in _PRODUCTS:
                found = self._product(equation.primitive.name, known)
            elif equation.primitive.name in ("scan", "while"):
                found = self._loop(equation, known)
            else:
                inner = [self._call(sub, known) for sub in _jaxprs(equation)]
                found = inner[0] if inner else [self._join(known)]
            found = [found[0]] * len(equation.outvars) if len(found) == 1 else found
            outside = equation.outvars[len(equation.outvars) - len(found) :]
            for variable, source in zip(outside, found[-len(outside) :], strict=True):
                if source is not None:
                    origin[variable] = source
        return [None if isinstance(v, core.Literal) else origin.get(v) for v in jaxpr.outvars]

    def _product(self, primitive, known):
        joined = self._join(known)
        if joined == _MIXED:
            for source in known:
                for leaf in sorted((source or frozenset()) - _MIXED):
                    self.uses.setdefault(leaf, KernelUse(leaf, primitive == _PRODUCTS[1]))
        return [joined]

    def _loop(self, equation, known):
        """Follows a loop until what its carry stands for no longer changes."""
        params = equation.params
        if equation.primitive.name == "scan":
            body, start, size = params["jaxpr"].jaxpr, params["num_consts"], params["num_carry"]
        else:
            body, size = params["body_jaxpr"].jaxpr, len(equation.outvars)
            start = len(known) - size
        while True:
            found = self._call(body, known)
            carry = [
                self._join(pair)
                for pair in zip(known[start : start + size], found[:size], strict=True)
            ]
            if carry == known[start : start + size]:
                return found
            known = [*known[:start], *carry, *known[start + size :]]

    def _call(self, jaxpr, known):
        # Operands align at the end: `cond` has an index before them, `while` its test's constants.
        names = jaxpr.invars[-len(known) :] if known else []
        pairs = zip(names, known[len(known) - len(names) :], strict=True)
        return self.follow(jaxpr, {name: source for name, source in pairs if source is not None})

    def _join(self, known):
        sources = [source for source in known if source is not None]
        if _MIXED in sources:
            return _MIXED
        return frozenset().union(*sources) if sources else None


def _jaxprs(equation):
    """Every jaxpr among the parameters of an equation, those with the most results first."""
    found = []
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            if isinstance(item, core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, core.Jaxpr):
                found.append(item)
    return sorted(found, key=lambda jaxpr: -len(jaxpr.outvars))
