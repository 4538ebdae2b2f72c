"""Makes a `Model` and its `Variables` from any network that a user brings."""

from typing import Any

from flax import linen, nnx

from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.models.flags import Apply
from bap_jax.models.linen import from_linen, joining_as, split
from bap_jax.models.nnx import from_nnx
from bap_jax.models.states import check_real
from bap_jax.types import Variables


def adapt(
    network: Any, variables: Any = None, apply: Apply | None = None
) -> tuple[Model, Variables]:
    """Wraps a network that a user brings.

    Args:
      network: a trained `nnx.Module`, a `linen.Module`, or a `Model`.
      variables: for a Linen module the dict that `module.init` returns, for a `Model` its
        `Variables`; an NNX module holds its own. Boxes such as `nn.Partitioned` are opened, and
        made anew by `Model.export`.
      apply: `(module, inputs, train) -> logits`, for a module of a calling convention that
        `from_linen` and `from_nnx` do not find out.

    Raises:
      UserError: the network is none of these, `variables` does not fit it, or it is not known how
        it is called, or a parameter is complex.
    """
    if isinstance(network, nnx.Module):
        if variables is not None:
            raise UserError("an NNX module holds its own variables; leave out `variables`.")
        model, variables = from_nnx(network, apply)
        check_real(variables.params)
        return model, variables
    if isinstance(network, linen.Module):
        if variables is None:
            raise UserError(
                "a Linen module needs its trained variables; "
                "write variables={'params': params, ...} as module.init returns them."
            )
        arrays = split(variables)
        check_real(arrays.params)
        return from_linen(network, apply)._replace(export=joining_as(variables)), arrays
    if isinstance(network, Model):
        if apply is not None:
            raise UserError("a bap_jax Model has its own `apply`; leave out `apply`.")
        if not isinstance(variables, Variables):
            raise UserError("a bap_jax Model needs variables=bap_jax.Variables(params, state).")
        return network, variables
    is_class = isinstance(network, type)
    got = f"the class {network.__name__}" if is_class else type(network).__name__
    raise UserError(
        f"expected a flax.nnx.Module, a flax.linen.Module or a bap_jax Model; got {got}."
    )
