"""In which share of the batches a group has a sample, and what rare groups weigh by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import constraints, lagrangian
from bap_jax.constraints import DenseReference, Observations
from bap_jax.constraints.observations import presence_of
from bap_jax.lagrangian import DualState

MAKERS = {
    "ceag": lambda part: constraints.excess_accuracy_gap(part, 0.01, estimator="adaptive"),
    "pairwise": lambda part: constraints.pairwise_disparity(part, 0.01, estimator="adaptive"),
    "floor": lambda part: constraints.worst_group_floor(part, 0.01, estimator="adaptive"),
    "el": lambda part: constraints.equalized_loss(part, buffer_size=40, fading=True),
    "distillation": lambda part: constraints.group_distillation(part, 0.05, buffer_size=40),
}


def reference(frequency):
    frequency = jnp.asarray(frequency, jnp.float32)
    dense = jnp.full(frequency.shape, 0.9)
    return DenseReference(dense, 0.9, 0 * dense, 0.0, frequency, 1000 * frequency)


def batch_of(ids, **fields):
    size = len(ids)
    logits = jnp.zeros((size, 2))
    fields = {"loss": jnp.ones(size), "weight": jnp.ones(size)} | fields
    labels, ids = jnp.zeros(size, jnp.int32), jnp.asarray(ids)[:, None]
    return Observations(
        correct=jnp.ones(size),
        group_ids=ids,
        labels=labels,
        logits=logits,
        dense_logits=logits,
        **fields,
    )


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.2, 1.0])
def test_it_is_the_share_of_random_batches(share, size):
    found = presence_of(batch_of(np.zeros(size, int)), jnp.array([share]))
    np.testing.assert_allclose(found, 1 - (1 - share) ** size, rtol=0.01)


def test_samples_of_weight_0_do_not_count_and_a_group_without_any_is_never_there():
    weight = jnp.arange(32) < 8
    found = presence_of(batch_of(np.zeros(32, int), weight=1.0 * weight), jnp.array([0.01, 0.0]))
    np.testing.assert_allclose(found, [1 - np.exp(-0.08), 0], rtol=1e-6)
    nothing = presence_of(batch_of(np.zeros(4, int), weight=jnp.zeros(4)), jnp.array([0.1]))
    assert np.isfinite(nothing).all() and nothing > 0


@pytest.mark.parametrize("name", MAKERS)
def test_every_constraint_says_it(name):
    frequency = np.array([0.9, 0.09, 0.01])
    constraint = MAKERS[name](reference(frequency))
    values, _ = constraint.evaluate(constraint.init(), batch_of(np.arange(64) % 2))
    expected = np.tile(1 - np.exp(-64 * frequency), constraint.size // 3)
    np.testing.assert_allclose(values.presence, expected, rtol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_chosen_groups_are_as_seldom_as_among_all(name):
    """However many samples of them this batch has."""
    whole = reference([0.75, 0.2, 0.05])
    constraint = constraints.among(whole, [1, 2], MAKERS[name])
    ids = np.repeat([0, 1, 2], [60, 3, 1])
    values, _ = constraint.evaluate(constraint.init(), batch_of(ids))
    expected = np.tile(1 - np.exp(-64 * np.array([0.2, 0.05])), constraint.size // 2)
    np.testing.assert_allclose(values.presence, expected, rtol=1e-5)


def test_the_weight_of_a_rare_group_is_that_of_its_exponent():
    """ω_g = w_g e^{z_g}, on average over batches of 32 samples of 200 groups."""
    groups, size = 200, 32
    frequency = jnp.full(groups, 1 / groups)
    constraint, formulation = MAKERS["floor"](reference(frequency)), lagrangian.auto()
    exponent = jnp.linspace(0, 4, groups)
    dual = DualState(frequency * jnp.expm1(exponent), formulation.init(groups).memory)

    def weights(key):
        """The gradient with respect to each group's loss."""
        ids = jax.random.choice(key, groups, (size,))

        def objective(group_loss):
            losses = group_loss[ids]
            values, _ = constraint.evaluate(constraint.init(), batch_of(ids, loss=losses))
            return losses.mean() + formulation.penalty_term(values, dual)

        return jax.grad(objective)(jnp.ones(groups))

    mean = jax.jit(jax.vmap(weights))(jax.random.split(jax.random.key(0), 20_000)).mean(0)
    np.testing.assert_allclose(mean * groups, np.exp(exponent), rtol=0.1)
    np.testing.assert_allclose((mean * groups / np.exp(exponent)).mean(), 1, rtol=0.01)


@pytest.mark.parametrize("chosen", [[1, 2], [2]])
def test_rare_groups_that_are_chosen_act_in_full(chosen):
    """On average over random batches, of which many have no sample of them."""
    frequency = np.array([0.96, 0.02, 0.02])
    constraint = constraints.among(reference(frequency), chosen, MAKERS["floor"])
    formulation = lagrangian.auto()
    dual = DualState(jnp.ones(len(chosen)), formulation.init(len(chosen)).memory)

    def acting(key):
        ids = jax.random.choice(key, 3, (32,), p=jnp.array(frequency))
        values, _ = constraint.evaluate(constraint.init(), batch_of(ids))
        return formulation.penalty_term(values._replace(proxy=jnp.ones(len(chosen))), dual)

    mean = jax.jit(jax.vmap(acting))(jax.random.split(jax.random.key(0), 20_000)).mean()
    np.testing.assert_allclose(mean, len(chosen), rtol=0.03)


def test_under_equalized_loss_skewed_losses_take_less_weight_than_those_of_a_batch_do():
    """Most losses of a batch are below their mean and a few are far above, of which a bounded
    violation counts little: where all groups are alike, a longer mean lowers their weights less."""
    groups, size, whole = 10, 128, reference(jnp.full(10, 0.1))
    formulation = lagrangian.auto(named_units=True)

    def mean_integral(constraint):
        def body(carry, key):
            of_ids, of_loss = jax.random.split(key)
            ids = jax.random.choice(of_ids, groups, (size,))
            loss = jnp.exp(2 * jax.random.normal(of_loss, (size,)))
            values, memory = constraint.evaluate(carry[0], batch_of(ids, loss=loss))
            dual = formulation.update_multipliers(values._replace(objective=loss.mean()), carry[1])
            return (memory, dual), dual.memory.integral.mean()

        start = constraint.init(), formulation.init(groups)
        keys = jax.random.split(jax.random.key(0), 1500)
        return jax.jit(lambda keys: jax.lax.scan(body, start, keys)[1])(keys)[500:].mean()

    batch = mean_integral(constraints.equalized_loss(whole))
    fading = mean_integral(MAKERS["el"](whole))
    assert batch < -1.2 and fading > 0.6 * batch
