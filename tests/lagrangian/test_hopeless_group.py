"""A group that no weight helps must not take the network with it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import DenseReference, Observations, excess_accuracy_gap

BATCH, FEATURES, CLASSES, SIZE, HIDDEN = 128, 24, 4, 2**14, 64
STEPS, RATE, RANDOM = 2000, 0.03, 0.1


def samples():
    """Inputs, labels and groups; a tenth of the samples have random labels and are group 1."""
    rng = np.random.default_rng(0)
    centres = 0.55 * rng.normal(size=(CLASSES, FEATURES))
    labels = rng.integers(CLASSES, size=SIZE)
    inputs = centres[labels] + rng.normal(size=(SIZE, FEATURES))
    groups = (rng.random(SIZE) < RANDOM).astype(int)
    labels = np.where(groups == 1, rng.integers(CLASSES, size=SIZE), labels)
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(labels), jnp.asarray(groups)


def network(params, inputs):
    return jax.nn.relu(inputs @ params["in"]) @ params["out"]


def fine_tuned(formulation):
    """Accuracy on all samples after a run from random weights, at a rate that falls twice."""
    inputs, labels, groups = samples()
    share = jnp.array([1 - RANDOM, RANDOM])
    dense = DenseReference(
        jnp.array([0.97, 0.95]), 0.968, jnp.array([0.1, 0.1]), 0.1, share, share * SIZE, share / 10
    )
    constraint = excess_accuracy_gap(dense, 0.01, estimator="adaptive")
    rate = optax.piecewise_constant_schedule(RATE, {STEPS * 6 // 10: 0.1, STEPS * 8 // 10: 0.1})
    scheme = lagrangian.dual_primal(optax.sgd(rate, momentum=0.9), formulation, weight_limit=20.0)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "in": jax.random.normal(keys[0], (FEATURES, HIDDEN)) * FEATURES**-0.5,
        "out": jax.random.normal(keys[1], (HIDDEN, CLASSES)) * HIDDEN**-0.5,
    }

    def step(carry, key):
        params, state, memory = carry
        chosen = jax.random.randint(key, (BATCH,), 0, SIZE)
        x, y, group = inputs[chosen], labels[chosen], groups[chosen]

        def problem(params):
            logits = network(params, x)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
            correct = (logits.argmax(-1) == y).astype(jnp.float32)
            seen = Observations(loss, correct, group[:, None], jnp.ones(BATCH), y, logits)
            return lagrangian.Evaluation(loss.mean(), *constraint.evaluate(memory, seen))

        params, state, info = scheme.update(problem, params, state)
        return (params, state, info.evaluation.aux), None

    start = (params, scheme.init(params, 2), constraint.init())
    (params, *_), _ = jax.lax.scan(step, start, jax.random.split(jax.random.key(1), STEPS))
    return (network(params, inputs).argmax(-1) == labels).mean()


@pytest.mark.smoke
def test_it_costs_three_points_of_accuracy_at_most():
    """From random weights the network never has a good accuracy to fall back to."""
    plain = jax.jit(lambda: fine_tuned(optax.sgd(0.0)))()
    constrained = jax.jit(lambda: fine_tuned(lagrangian.auto(named_units=True)))()
    assert plain > 0.75 and constrained > plain - 0.03
