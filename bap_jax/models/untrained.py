"""NNX networks that have no parameters yet, as `Model`s.

An NNX module draws its parameters when it is made. A built-in network is therefore a function that
makes it, and `Model.init` calls this function.
"""

from collections.abc import Callable

from flax import nnx

from bap_jax.models.base import Model
from bap_jax.models.nnx import from_nnx


def from_nnx_maker(make: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """A `Model` whose `init` makes the module from a key.

    Args:
      make: `rngs -> ` the module; called with other keys it must make modules that differ in
        nothing but their arrays. Each stream of `rngs` starts from the key.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> model = from_nnx_maker(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
      >>> variables = model.init(jax.random.key(0), jnp.ones((1, 4)))
      >>> model.apply(variables, jnp.ones((3, 4)), train=False, key=None)[0].shape
      (3, 2)
    """
    model = from_nnx(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]  # shapes, no arrays

    def init(key, inputs):
        del inputs  # the module knows its shapes
        return from_nnx(make(nnx.Rngs(key)))[1]

    return model._replace(init=init)
