"""The order in which a network uses its kernels, read from its traced program."""

from bap_jax.kernel_uses import KernelUse, kernel_uses
from bap_jax.models.base import Model
from bap_jax.types import PyTree, Variables

__all__ = ["KernelUse", "kernel_order"]


def kernel_order(model: Model, variables: Variables, inputs: PyTree) -> list[KernelUse]:
    """The parameters that multiply activations, in order of first use.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`, an array or a pytree of arrays; only the shapes matter.
    """

    def forward(params, inputs):
        return model.apply(Variables(params, variables.state), inputs, train=False, key=None)[0]

    return kernel_uses(forward, variables.params, inputs)
