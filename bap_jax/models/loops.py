"""Whether a network's training step may be put into a loop, read off its traced program.

On XLA:CPU the plain gradient of a convolution's kernel is slow inside loops (jax-ml/jax#12868).
"""

from typing import NamedTuple

import jax
from jax.extend import core

from bap_jax.models.base import Model
from bap_jax.types import Array, Variables


class Convolutions(NamedTuple):
    """What a network has of convolutions.

    Attributes:
      any: whether there are any.
      slow_in_loops: whether the gradient of one is left to `jax.lax`, and not its own, as that of
        `models.convolution` is.
    """

    any: bool
    slow_in_loops: bool


def convolutions(model: Model, variables: Variables, inputs: Array) -> Convolutions:
    """Looks for convolutions.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`; only the shape matters.
    """

    def forward(variables, inputs):
        return model.apply(variables, inputs, train=False, key=None)[0]

    found = set(_own_gradients(jax.make_jaxpr(forward)(variables, inputs).jaxpr, False))
    return Convolutions(bool(found), False in found)


def _own_gradients(jaxpr, has_own):
    """For each convolution whether it lies in a function with a gradient of its own."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            yield has_own
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                if isinstance(inner, core.ClosedJaxpr):
                    inner = inner.jaxpr
                if isinstance(inner, core.Jaxpr):
                    yield from _own_gradients(inner, has_own or name.startswith("custom_vjp"))
