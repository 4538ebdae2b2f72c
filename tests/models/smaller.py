"""Networks to make smaller, and a check that their results stay the same."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import models, pruning
from bap_jax.pruning import structured
from bap_jax.types import Variables

IMAGES = jax.random.normal(jax.random.key(1), (3, 8, 8, 2))

channel_masks = jax.jit(structured.channel_masks, static_argnums=1)
apply_masks = jax.jit(pruning.apply_masks)


@functools.cache
def both_modes(model):
    """`(variables, inputs) -> [(logits, state)]` in evaluation and in training."""
    key = jax.random.key(3)
    return jax.jit(
        lambda v, x: [model.apply(v, x, train=train, key=key) for train in (False, True)],
        compiler_options={"xla_backend_optimization_level": 0},  # compiling takes most of the time
    )


def drawn(model, inputs, seed=0):
    """Arrays without a zero among them, variances positive."""
    draw = np.random.default_rng(seed)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return Variables(
        jax.tree.map(lambda leaf: jnp.float32(draw.normal(0, 0.4, leaf.shape)), variables.params),
        jax.tree.map(lambda leaf: jnp.float32(draw.uniform(0.5, 1.5, leaf.shape)), variables.state),
    )


def dead_at_random(params, groups, kept, seed=0, share=0.3):
    """Masks that remove channels chosen by the weights, and a random share of the other weights."""
    draw = np.random.default_rng(seed).uniform

    def thin(mask, leaf):
        loose = draw(size=leaf.shape) >= share if leaf.ndim > 1 else np.ones(leaf.shape, bool)
        return loose if mask is None else (mask != 0) & loose

    masks = channel_masks(params, groups, kept)
    return jax.tree.map(thin, masks, params, is_leaf=lambda leaf: leaf is None)


def assert_same(model, variables, masks, inputs):
    """The compact model and its variables, which compute what the masked ones do."""
    small, few = models.compact(model, masks, variables)
    masked = variables._replace(params=apply_masks(variables.params, masks))
    expected, found = both_modes(model)(masked, inputs), both_modes(small)(few, inputs)
    for (wanted, large), (logits, state) in zip(expected, found, strict=True):
        np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-5)
        _, cut = models.compact(model, masks, variables._replace(state=large))
        chex.assert_trees_all_close(state, cut.state, rtol=1e-5, atol=1e-5)
    return small, few
