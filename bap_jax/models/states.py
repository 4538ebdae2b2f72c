"""Arrays of a network as they come in, and as a forward pass moves them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import core

from bap_jax.errors import UserError
from bap_jax.trees import leaves_by_path
from bap_jax.types import PyTree


def fitted(new: PyTree, old: PyTree) -> PyTree | None:
    """The new arrays, floating-point ones in their former types; None if they differ otherwise."""
    new_leaves, structure = jax.tree.flatten(new)
    if structure != jax.tree.structure(old):
        return None
    pairs = zip(new_leaves, jax.tree.leaves(old), strict=True)
    leaves = [_fitted_leaf(*pair) for pair in pairs]
    return None if any(leaf is None for leaf in leaves) else jax.tree.unflatten(structure, leaves)


def _fitted_leaf(new, old):
    old_type, new_type = jnp.asarray(old).dtype, jnp.result_type(new)
    if jnp.shape(new) != jnp.shape(old):
        return None
    if new_type == old_type:
        return new
    both_float = all(jnp.issubdtype(t, jnp.floating) for t in (new_type, old_type))
    return jnp.asarray(new, old_type) if both_float else None


def is_trainable(leaf: Any) -> bool:
    """Whether there is a gradient with respect to this array."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def check_real(params: PyTree) -> None:
    """Raises an error for complex parameters.

    Optimisers, scores and masks here are those of real numbers; of complex ones JAX's gradient is
    the conjugate of the direction of steepest ascent, so that steps would not descend.

    Args:
      params: of a network.

    Raises:
      UserError: some are complex; the message names the first.
    """
    for path, leaf in leaves_by_path(params).items():
        if jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating):
            raise UserError(
                f"the parameter {path!r} is {leaf.dtype}, and only real parameters can be pruned "
                "and tuned. Hold its real and its imaginary part as two parameters, and join them "
                "in the forward pass: jax.lax.complex(real, imaginary)."
            )


def plain_array(leaf: Any) -> Any:
    """The same numbers as an array of JAX that is not bound to devices or a mesh."""
    if isinstance(leaf, core.Tracer) or not isinstance(leaf, _ARRAYS):
        return leaf
    if not isinstance(leaf, jax.Array):
        return jnp.asarray(leaf)
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    if is_key or isinstance(leaf.sharding, jax.sharding.SingleDeviceSharding):
        return leaf
    return jnp.asarray(np.asarray(leaf)) if leaf.is_fully_addressable else leaf


_ARRAYS = jax.Array | np.ndarray | np.generic | int | float
