"""Flax NNX modules as `Model`s."""

import jax
import jax.numpy as jnp
from flax import nnx

from bap_jax.models.base import Model
from bap_jax.types import Variables


def from_nnx(module: nnx.Module) -> tuple[Model, Variables]:
    """Wraps a trained NNX module, which is called as `module(inputs)`, inputs `(batch, ...)`.

    The module itself does not change. Dropout and batch normalisation are switched as
    `module.train()` and `module.eval()` do. In training every random stream of the module is seeded
    from the key of the step.

    Example:
      >>> import jax.numpy as jnp
      >>> model, variables = from_nnx(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
      >>> logits, _ = model.apply(variables, jnp.ones((3, 4)), train=False, key=None)
      >>> logits.shape
      (3, 2)
    """
    train_graph, params, state = _split(module, train=True)
    eval_graph = _split(module, train=False)[0]

    def merge(variables, graph):
        params = nnx.State(variables.params)
        return nnx.merge(graph, params, variables.state, copy=True)

    def init(key, inputs):
        del key, inputs
        return Variables(params, state)

    def apply(variables, inputs, *, train=False, key=None):
        if train and key is not None:
            variables = variables._replace(state=_reseed(variables.state, key))
        network = merge(variables, train_graph if train else eval_graph)
        logits = network(inputs)
        return logits, nnx.split(network, nnx.Param, ...)[2]

    def export(variables):
        return merge(variables, eval_graph)

    return Model(init, apply, export, module), Variables(params, state)


def _reseed(state, key):
    """The state with a new value, made from `key`, for every random key in it."""
    leaves, structure = jax.tree.flatten(state)
    for i, leaf in enumerate(leaves):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaves[i] = jax.random.split(jax.random.fold_in(key, i), leaf.shape)
    return jax.tree.unflatten(structure, leaves)


def _split(module, train):
    twin = nnx.clone(module)
    twin.train() if train else twin.eval()
    graph, params, state = nnx.split(twin, nnx.Param, ...)
    return graph, jax.tree.map(lambda leaf: leaf, nnx.to_pure_dict(params)), state
