"""How large multipliers may be while accuracy is lost: by hand, and within the rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import (
    DenseReference,
    Observations,
    constraint_values,
    excess_accuracy_gap,
)
from bap_jax.lagrangian import ceiling
from bap_jax.lagrangian.ceiling import HIGHEST, Ceiling

LOWEST, LOSS = ceiling._LOWEST, ceiling._LOSS
SEEN = jnp.array([True, True])


def moved(height, best, accuracy, integral=(3.0, 1.0), deviation=0.0, observed=SEEN):
    start = Ceiling(jnp.float32(height), jnp.float32(best))
    return ceiling.update(start, accuracy, deviation, jnp.array(integral), observed)


def test_it_comes_down_from_the_largest_multiplier():
    """At once to it, and then by a step: the first of a fall from 6 to 3 is not lost."""
    assert moved(HIGHEST, 0.9, 0.9 - 3 * LOSS).exponent == pytest.approx(3 - ceiling._DOWN)
    assert moved(2.0, 0.9, 0.9 - 3 * LOSS).exponent == pytest.approx(2 - ceiling._DOWN)


def test_it_moves_in_proportion_near_the_loss_that_is_allowed():
    assert moved(2.0, 0.9, 0.9 - 1.5 * LOSS).exponent == pytest.approx(2 - 0.5 * ceiling._DOWN)
    assert moved(2.0, 0.9, 0.9 - 0.5 * LOSS).exponent == pytest.approx(2 + 0.5 * ceiling._UP)
    assert moved(2.0, 0.9, 0.95).exponent == pytest.approx(2 + ceiling._UP)


def test_its_limits():
    assert moved(LOWEST, 0.9, 0.5).exponent == LOWEST
    assert moved(HIGHEST, 0.9, 0.5, integral=(0.0, 0.0)).exponent == LOWEST
    assert moved(HIGHEST, 0.9, 0.9).exponent == HIGHEST


def test_only_what_is_certain_counts_as_best_and_as_lost():
    assert moved(2.0, 0.9, 0.95, deviation=0.01).best == pytest.approx(0.93)
    assert moved(2.0, 0.9, 0.91, deviation=0.01).best == pytest.approx(0.9)
    one_deviation_lost = moved(2.0, 0.9, 0.9 - 2 * LOSS, deviation=2 * LOSS)
    assert one_deviation_lost.exponent == pytest.approx(2 + ceiling._UP)


@pytest.mark.parametrize("batch", [32, 128])
@pytest.mark.parametrize(
    "shares", [[0.6, 0.2, 0.2], [0.45, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02]]
)
def test_it_stays_up_where_nothing_is_lost(batch, shares):
    """Large groups, which are seen first, are right more often than small ones."""
    shares, rng = np.array(shares, np.float32), np.random.default_rng(0)
    right = np.linspace(1.0, 0.2, shares.size, dtype=np.float32)
    dense = np.full_like(shares, 0.99)
    reference = DenseReference(dense, 0.99, dense, 0.0, jnp.array(shares), jnp.array(5000 * shares))
    constraint = excess_accuracy_gap(reference, 0.01, estimator="adaptive")
    formulation = lagrangian.auto(named_units=True)

    @jax.jit
    def body(carry, seen):
        ids, correct = seen
        observations = Observations(correct, correct, ids[:, None], jnp.ones(batch))
        values, memory = constraint.evaluate(carry[0], observations)
        dual = formulation.update_multipliers(values._replace(objective=1.0), carry[1])
        return (memory, dual), dual.memory.ceiling.exponent

    ids = rng.choice(shares.size, (200, batch), p=shares / shares.sum())
    stream = jnp.array(ids), jnp.array(rng.random((200, batch)) < right[ids], jnp.float32)
    start = constraint.init(), formulation.init(shares.size)
    (_, dual), heights = jax.lax.scan(body, start, stream)
    assert heights.min() == HIGHEST
    assert dual.memory.ceiling.best < (shares * right).sum() + LOSS


def test_nothing_moves_without_an_observation():
    nothing = moved(2.0, 0.9, 0.5, observed=~SEEN)
    assert (nothing.exponent, nothing.best) == (2.0, pytest.approx(0.9))


def test_multipliers_of_groups_that_are_not_in_the_batch_count_too():
    """Else a batch without the group with the largest one would cut it to that of the others."""
    found = moved(HIGHEST, 0.9, 0.9 - 3 * LOSS, observed=jnp.array([False, True]))
    assert found.exponent == pytest.approx(3 - ceiling._DOWN)


def test_no_constraint_at_all():
    found = moved(HIGHEST, 0.9, 0.5, integral=(), observed=jnp.zeros(0, bool))
    assert found.exponent == HIGHEST


def test_members_are_independent():
    """vmap = loop, over the accuracies of two members."""
    accuracies = jnp.array([0.95, 0.8])
    together = jax.vmap(lambda accuracy: moved(3.0, 0.9, accuracy))(accuracies)
    alone = [moved(3.0, 0.9, accuracy) for accuracy in accuracies]
    for i, one in enumerate(alone):
        np.testing.assert_allclose(together.exponent[i], one.exponent)
        np.testing.assert_allclose(together.best[i], one.best)


def exponents(accuracies, **units):
    """`(step, constraint)` z of two constraints: one badly violated, one satisfied."""
    formulation, unit = lagrangian.auto(), jnp.array([0.1, 0.9])

    def step(dual, accuracy):
        values = constraint_values(
            jnp.array([0.5, -0.5]), unit=unit, reach=0.1, accuracy=accuracy, **units
        )
        dual = formulation.update_multipliers(values, dual)
        return dual, jnp.log1p(dual.multipliers / unit)

    return jax.lax.scan(step, formulation.init(2), jnp.asarray(accuracies, jnp.float32))[1]


def test_a_group_that_cannot_be_helped_gives_its_weight_back():
    """200 steps while accuracy stays, 200 while four points are lost, and it returns."""
    found = exponents([0.9] * 200 + [0.86] * 200 + [0.9] * 400)[:, 0]
    np.testing.assert_allclose(found[199], 4.6, rtol=1e-3)
    np.testing.assert_allclose(found[399], LOWEST, rtol=1e-5)
    assert (np.diff(found[:200]) > 0).all() and (np.diff(found[200:245]) < 0).all()
    np.testing.assert_allclose(found[-1], HIGHEST, rtol=1e-5)


def test_where_the_accuracy_is_not_known_nothing_is_held_down():
    np.testing.assert_allclose(exponents([0.0] * 400)[-1, 0], HIGHEST, rtol=1e-5)
