"""What a network costs: its parameters, and the multiply-adds of one forward pass.

They are counted on the traced program. A matrix product or a convolution with o results, each the
sum of t products, has o · t multiply-adds. Additions of a bias, norms and activations do not count;
products with the zeros that pad an image do.
"""

import math
from typing import Any, NamedTuple

import jax

from bap_jax.errors import UserError
from bap_jax.jaxprs import inner_jaxprs, is_convolution
from bap_jax.models.adapt import adapt
from bap_jax.trees import array_on_device
from bap_jax.types import PyTree, Variables


class Cost(NamedTuple):
    """What a network costs.

    Attributes:
      params: numbers in its parameters, zeros included.
      multiply_adds: of the forward pass of one sample, in evaluation.
    """

    params: int
    multiply_adds: int


def cost(model: Any, variables: Any, inputs: PyTree) -> Cost:
    """Counts parameters and multiply-adds.

    Args:
      model: a `Model`, a Linen module or an `nnx.Module`.
      variables: of the model: `Variables`, the dict that `module.init` returns, or None for NNX.
        Shapes are enough, as `jax.eval_shape` gives them.
      inputs: `(batch, ...)`, an array or a pytree of arrays; only the shape and the type of one
        sample matter.

    Raises:
      UserError: there are products in a loop of unknown length, or `variables` does not fit
        `model`.

    Example:
      >>> import jax.numpy as jnp
      >>> from bap_jax.models import MLP
      >>> network, inputs = MLP((3, 2)), jnp.zeros((1, 4))
      >>> cost(network, network.init(jax.random.key(0), inputs), inputs)
      Cost(params=23, multiply_adds=18)
    """
    model, variables = adapt(model, variables)

    def forward(variables: Variables, inputs):
        return model.apply(variables, inputs, train=False, key=None)[0]

    sample = jax.tree.map(lambda leaf: array_on_device((1, *leaf.shape[1:]), leaf.dtype), inputs)
    jaxpr = jax.make_jaxpr(forward)(variables, sample).jaxpr
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.params))
    return Cost(params, _multiply_adds(jaxpr))


def _multiply_adds(jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if is_convolution(equation):
        # A kernel's input axis has the length of one feature group.
        kernel, numbers = equation.invars[1].aval.shape, params.get("dimension_numbers")
        out_axis = numbers.rhs_spec[0] if numbers else -1
        return equation.outvars[0].aval.size * (math.prod(kernel) // max(kernel[out_axis], 1))
    inner = [_multiply_adds(jaxpr) for jaxpr in inner_jaxprs(equation)]
    if name == "while" and any(inner):
        raise UserError(
            "the network has products in a loop of unknown length; write the loop as jax.lax.scan, "
            "or as a fori_loop with constant bounds."
        )
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)
