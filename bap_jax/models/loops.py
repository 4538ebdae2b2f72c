"""Whether a network's training step is slow inside a loop, read from its traced program.

On XLA:CPU the plain gradient of a convolution's kernel is slow inside loops (jax-ml/jax#12868).
"""

from typing import NamedTuple

import jax

from bap_jax.jaxprs import inner_jaxprs, is_convolution
from bap_jax.models.base import Model
from bap_jax.types import PyTree, Variables


class Convolutions(NamedTuple):
    """Which convolutions a network has.

    Attributes:
      any: whether it has any.
      slow_in_loops: whether it has one with the gradient of `jax.lax`, not with a gradient of its
        own as in `models.convolution`.
    """

    any: bool
    slow_in_loops: bool


def convolutions(model: Model, variables: Variables, inputs: PyTree) -> Convolutions:
    """Looks for convolutions in a network.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`, an array or a pytree of arrays; only the shapes matter.
    """

    def forward(variables, inputs):
        return model.apply(variables, inputs, train=False, key=None)[0]

    own_gradients = set(_own_gradients(jax.make_jaxpr(forward)(variables, inputs).jaxpr, False))
    return Convolutions(bool(own_gradients), False in own_gradients)


def _own_gradients(jaxpr, has_own):
    """For each convolution, whether it is inside a function with its own gradient."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if is_convolution(equation):
            yield has_own
            continue
        for inner in inner_jaxprs(equation):
            yield from _own_gradients(inner, has_own or name.startswith("custom_vjp"))
