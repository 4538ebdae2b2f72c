"""Short trainings of the tiny network by any optimiser, with masks that change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import pipeline, training
from bap_jax.training import OptimizerSettings, PruningSettings
from bap_jax.training.methods import build_method
from tests.training.tiny import settings_of, tiny

EPOCHS, STEPS, BATCH = 3, 2, 15


def run_settings(method="nft", scheme="dual_primal", dual=None, pruning=None, **optimizer):
    """Half of the weights go over two epochs, and one more follows."""
    settings = settings_of(method, scheme, dual)
    pruning = pruning or PruningSettings(0.5, epochs=2, prunable="kernels")
    return dataclasses.replace(
        settings,
        optimizer=OptimizerSettings(**optimizer),
        pruning=pruning,
        finetune_epochs=EPOCHS - pruning.epochs,
    )


def make_trainer(settings):
    """The trainer on three groups of samples; both kernels may be pruned."""
    problem = tiny()
    pruner = training.build_pruner(settings.pruning, {"first": True, "last": True})
    method = build_method(problem.reference, settings)
    return pipeline.trainer_from_settings(problem.model, method, pruner, settings, STEPS)


def order_of(epoch):
    """`(step, batch)` samples of an epoch."""
    return np.random.default_rng(epoch).permutation(30).reshape(STEPS, BATCH)


def train(settings, epochs=EPOCHS):
    """The states after each epoch."""
    trainer, problem = make_trainer(settings), tiny()
    state, states = trainer.init(problem.variables, jax.random.key(0)), []
    together = jax.jit(trainer.run_steps)
    for epoch in range(epochs):
        state, _ = together(state, problem.train, order_of(epoch), jnp.int32(epoch))
        states.append(state)
    return states


def removed(state):
    """The weights that the masks remove, as one array."""
    pairs = zip(jax.tree.leaves(state.params), jax.tree.leaves(state.masks), strict=True)
    return np.concatenate([np.asarray(leaf)[np.asarray(mask) == 0] for leaf, mask in pairs])
