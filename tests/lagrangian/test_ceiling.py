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
    assert moved(2.0, 0.9, 0.95, deviation=0.01).best == pytest.approx(0.92)
    assert moved(2.0, 0.9, 0.92, deviation=0.01).best == pytest.approx(0.9)
    one_deviation_lost = moved(2.0, 0.9, 0.9 - 2 * LOSS, deviation=2 * LOSS)
    assert one_deviation_lost.exponent == pytest.approx(2 + ceiling._UP)


EIGHT = [0.45, 0.2, 0.1, 0.08, 0.06, 0.05, 0.04, 0.02]


@pytest.mark.parametrize("batch", [32, 128])
@pytest.mark.parametrize(
    ("shares", "right", "size"),
    [
        ([0.6, 0.2, 0.2], [1.0, 0.6, 0.2], 5000),
        (EIGHT, np.linspace(1, 0.2, 8), 5000),
        ([0.5, 0.5], [0.98, 0.97], 20_000),
        ([0.1] * 10, [0.95] * 10, 10_000),
    ],
    ids=["three", "eight", "few wrong", "equal"],
)
def test_it_is_not_held_down_for_good_where_nothing_is_lost(batch, shares, right, size):
    """Twenty networks that do not change. Large groups, which are seen first, are right more often
    than small ones, and the first samples of a group may all be right by chance. With few wrong
    ones false alarms come now and then; the lowest ceiling is 1.5."""
    shares, right = np.array(shares, np.float32), np.array(right, np.float32)
    dense = np.full_like(shares, 0.99)
    reference = DenseReference(dense, 0.99, dense, 0.0, jnp.array(shares), jnp.array(size * shares))
    constraint = excess_accuracy_gap(reference, 0.01, estimator="adaptive")
    formulation = lagrangian.auto(named_units=True)

    def body(carry, key):
        of_ids, of_right = jax.random.split(key)
        ids = jax.random.choice(of_ids, shares.size, (batch,), p=shares / shares.sum())
        correct = jax.random.bernoulli(of_right, jnp.array(right)[ids]).astype(float)
        observations = Observations(correct, correct, ids[:, None], jnp.ones(batch))
        values, memory = constraint.evaluate(carry[0], observations)
        dual = formulation.update_multipliers(values._replace(objective=1.0), carry[1])
        return (memory, dual), dual.memory.ceiling

    def run(key):
        start = constraint.init(), formulation.init(shares.size)
        return jax.lax.scan(body, start, jax.random.split(key, 400))[1]

    heights, best = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 20))
    assert heights.mean() > 3.4 and heights[:, -100:].mean(1).min() > 1.6
    assert best.max() < (shares * right).sum() + 1.5 * LOSS


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
    start = formulation.init(2)  # the first is known to respond
    start = start._replace(memory=start.memory._replace(largest=jnp.array([5.0, 0.0])))

    def step(dual, accuracy):
        values = constraint_values(
            jnp.array([0.5, -0.5]), unit=unit, reach=0.1, accuracy=accuracy, **units
        )
        dual = formulation.update_multipliers(values, dual)
        return dual, jnp.log1p(dual.multipliers / unit)

    return jax.lax.scan(step, start, jnp.asarray(accuracies, jnp.float32))[1]


def test_a_group_that_cannot_be_helped_gives_its_weight_back():
    """200 steps while accuracy stays, 200 while four points are lost, and it returns."""
    found = exponents([0.9] * 200 + [0.86] * 200 + [0.9] * 400)[:, 0]
    np.testing.assert_allclose(found[199], 4.6, rtol=1e-3)
    np.testing.assert_allclose(found[399], LOWEST, rtol=1e-5)
    assert (np.diff(found[:200]) > 0).all() and (np.diff(found[200:245]) < 0).all()
    np.testing.assert_allclose(found[-1], HIGHEST, rtol=1e-5)


def test_where_the_accuracy_is_not_known_nothing_is_held_down():
    np.testing.assert_allclose(exponents([0.0] * 400)[-1, 0], HIGHEST, rtol=1e-5)
