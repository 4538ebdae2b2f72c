"""Networks that compute in bfloat16 while their parameters stay float32."""

import jax
import jax.numpy as jnp

from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.models.preprocessed import with_preprocessing
from bap_jax.types import Variables

PRECISIONS = ("float32", "bfloat16")


def in_precision(model: Model, precision: str) -> Model:
    """The same network, whose layers see parameters and inputs in `precision`.

    Gradients arrive in the type of the parameters. The model state (running statistics, random
    keys) keeps its types, and so do integer inputs; logits are float32. Preprocessing is not
    affected.

    A layer that combines its state with its inputs and has no `dtype` returns float32, and so do
    the layers after it. In `flax.nnx` this is `BatchNorm`: write
    `nnx.BatchNorm(..., dtype=bfloat16)`.

    Args:
      model: the network.
      precision: `float32` leaves everything as it is.

    Raises:
      UserError: `precision` is unknown.
    """
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}.")
    if precision == "float32":
        return model
    if model.preprocess is not None:
        assert model.network is not None  # both are set by with_preprocessing
        return with_preprocessing(in_precision(model.network, precision), model.preprocess)

    def apply(variables, inputs, *, train=False, key=None):
        low = Variables(_cast(variables.params), variables.state)
        logits, state = model.apply(low, _cast(inputs), train=train, key=key)
        return logits.astype(jnp.float32), _as_before(state, variables.state)

    return model._replace(apply=apply, precision=precision)


def _cast(tree):
    def low(leaf):
        is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.bfloat16) if is_float else leaf

    return jax.tree.map(low, tree)


def _as_before(state, like):
    """The arrays of a state, in the types of `like`."""

    def cast(new, old):
        return new.astype(old.dtype) if jnp.issubdtype(new.dtype, jnp.floating) else new

    return jax.tree.map(cast, state, like)
