"""A small tree, an updater of every algorithm, and loops that train with it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import pruning

NAMES = tuple(pruning.ALGORITHM_REGISTRY)
MASKED = tuple(name for name in NAMES if name != "no_prune" and not name.endswith("_ste"))
SHAPE, STEPS = (6, 8), 8
# Twice the same shapes: selection is compiled for each combination of shapes.
SHAPES = (SHAPE[1:], SHAPE, SHAPE[1:], SHAPE)
SCHEDULE = pruning.PolynomialSchedule(update_freq=2, update_start_step=1, update_end_step=6)


def quick(*chosen):
    """All algorithms, the chosen ones in the default tests."""
    marks = [() if name in chosen else pytest.mark.slow for name in NAMES]
    return [pytest.param(name, marks=mark) for name, mark in zip(NAMES, marks, strict=True)]


def leaves(seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def layers(biases_and_kernels):
    bias1, kernel1, bias2, kernel2 = biases_and_kernels
    return {"a": {"bias": bias1, "kernel": kernel1}, "b": {"bias": bias2, "kernel": kernel2}}


def make(name, sparsity=0.5, **fields):
    """An updater by name, with the same sparsity in all kernels and gradients at every step."""
    if name == "no_prune":
        return pruning.NoPruning()
    fields = {"scheduler": SCHEDULE, "skip_gradients": False} | fields
    if name.startswith("global"):
        fields["sparsity"] = sparsity
    else:
        distribution = pruning.sparsity_distributions.uniform
        fields["sparsity_distribution_fn"] = functools.partial(distribution, sparsity=sparsity)
    return pruning.ALGORITHM_REGISTRY[name](**fields)


def optimizer():
    return optax.sgd(0.1, momentum=0.9)


def gradient(params):
    """Of a function with its minimum elsewhere than at 0; not 0 where weights are."""
    return jax.tree.map(lambda leaf: leaf - jnp.cos(3 * leaf) / 2, params)


def train_step(updater, tx, params, state, **extra):
    grads = gradient(updater.pre_forward_update(params, state))
    updates, state = tx.update(grads, state, params, **extra)
    params = optax.apply_updates(params, updates)
    return updater.post_gradient_update(params, state), state


def loop(updater, tx, params, state=None, steps=STEPS):
    """Parameters and state after some steps, one after another."""
    state = tx.init(params) if state is None else state
    for _ in range(steps):
        params, state = train_step(updater, tx, params, state)
    return params, state


def scan(updater, tx, params, state, steps=STEPS):
    """What `loop` does, as one compiled loop."""

    def step(carry, _):
        return train_step(updater, tx, *carry), None

    return jax.lax.scan(step, (params, state), length=steps)[0]


def as_arrays(state):
    return jax.tree.map(jnp.asarray, state)


def assert_same(found, expected):
    """Same masks and counts, same numbers; the containers may differ."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for one, other in pairs:
        if jnp.issubdtype(jnp.result_type(one), jnp.inexact):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, other)


def plain_choice(due, update, keep, *operands):
    """A branch as Python's `if`, which needs no compiling: what the compiled ones have to do."""
    if isinstance(due, jax.core.Tracer):
        return jax.lax.cond(due, update, keep, *operands)
    return update(*operands) if due else keep(*operands)
