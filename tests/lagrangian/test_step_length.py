"""How long steps of the weights may be while constraints are violated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.lagrangian import LONGEST_STEP, step_length

GROWTH, SHRINKING = step_length._GROWTH, step_length._SHRINKING
FAST, SLOW = step_length._FAST, step_length._SLOW


@jax.jit
def lengths(losses, worst, active=True, longest=LONGEST_STEP, lost=0.0):
    """W after every step."""
    seen = jnp.broadcast_arrays(*map(jnp.asarray, (losses, worst, active, lost)))

    def body(state, seen):
        *seen, lost = seen
        state = step_length.update(state, *seen, longest, lost)
        return state, state.log_weight

    return jnp.exp(jax.lax.scan(body, step_length.init(), tuple(seen))[1])


def by_hand(losses, worst):
    """W after every step; the first steps average over as many losses as there were."""
    log_weight = fast = slow = 0.0
    found = []
    for number, loss in enumerate(losses, start=1):
        fast += max(FAST, 1 / number) * (loss - fast)
        slow += max(SLOW, 1 / number) * (loss - slow)
        rise = fast / slow - 1
        log_weight += -SHRINKING * rise if rise > 0 else GROWTH * max(worst, 0)
        log_weight = min(max(log_weight, 0), np.log(LONGEST_STEP))
        found.append(np.exp(log_weight))
    return found


def test_by_hand():
    """The loss falls, rises by a little, falls again, rises by a lot."""
    losses = np.concatenate(
        [np.linspace(1, 0.5, 30), np.linspace(0.5, 0.55, 10), np.full(20, 0.4), np.full(10, 2.0)]
    )
    found = lengths(losses, np.full(losses.shape, 0.6))
    np.testing.assert_allclose(found, by_hand(losses, 0.6), rtol=1e-4)
    assert found.max() > 10 and found[-1] == 1


def test_it_grows_with_the_worst_violation_up_to_the_longest():
    falling = np.linspace(2, 1, 100)
    for worst in (1.0, 0.25):
        expected = np.minimum(np.exp(GROWTH * worst * np.arange(1, 101)), LONGEST_STEP)
        np.testing.assert_allclose(lengths(falling, np.full(100, worst)), expected, rtol=1e-4)
    np.testing.assert_allclose(lengths(falling, np.ones(100), longest=3.0)[-1], 3, rtol=1e-5)


@pytest.mark.parametrize("worst", [0.0, -1.0])
def test_it_stays_while_no_constraint_is_violated(worst):
    np.testing.assert_array_equal(lengths(np.linspace(2, 1, 100), np.full(100, worst)), 1)


@pytest.mark.parametrize("longest", [1.0, 0.5])
def test_it_is_never_below_1_nor_above_the_longest(longest):
    np.testing.assert_array_equal(
        lengths(np.linspace(2, 1, 50), np.ones(50), longest=longest), np.ones(50)
    )


def test_it_shrinks_while_the_loss_rises_however_violated_a_constraint_is():
    losses = np.concatenate([np.linspace(2, 1, 100), 1.05 ** np.arange(1, 60)])
    found = np.asarray(lengths(losses, np.ones(159)))
    assert found[99] == pytest.approx(LONGEST_STEP, rel=1e-5) and found[-1] == 1
    assert (np.diff(found[110:]) <= 0).all() and found.min() >= 1


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_scale_of_the_loss_does_not_matter(factor):
    losses = np.random.default_rng(0).uniform(0.5, 1, 200).astype(np.float32)
    worst = np.random.default_rng(1).uniform(-1, 1, 200).astype(np.float32)
    found = lengths(losses, worst)
    np.testing.assert_array_equal(lengths(factor * losses, worst), found)
    assert 1 <= found.min() < 2 < found.max()


@pytest.mark.parametrize("loss", [0.0, -1.0, -1e30, 1e-45, 1e30, 3.4e38, -3.4e38])
def test_any_loss(loss):
    """A loss that is not positive has no relative rise, so nothing would shorten long steps."""
    found = lengths(np.full(60, loss), np.ones(60))
    assert np.isfinite(found).all() and found.max() <= LONGEST_STEP * 1.0001
    np.testing.assert_allclose(found[-1], LONGEST_STEP if loss > 1e-40 else 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("lost", "change"), [(0.049, 1.0), (0.051, -0.02), (0.075, -0.5), (0.1, -1.0), (0.9, -1.0)]
)
def test_it_shrinks_while_much_accuracy_is_lost(lost, change):
    """Also where the loss does not rise and a constraint is violated."""
    lost = np.where(np.arange(12) < 10, 0.0, lost)
    found = np.log(lengths(np.linspace(2, 1, 12), np.ones(12), lost=lost))
    np.testing.assert_allclose(np.diff(found)[-2:], GROWTH * change, rtol=1e-3)


def test_a_rising_loss_shortens_steps_also_while_accuracy_is_lost():
    losses = np.concatenate([np.linspace(2, 1, 15), [9.0]])
    plain, lost = (np.log(lengths(losses, np.ones(16), lost=lost)) for lost in (0.0, 0.051))
    np.testing.assert_allclose(lost, 0, atol=1e-6)
    assert 0 < plain[-1] < plain[-2]


def test_the_first_step_is_compared_with_itself():
    np.testing.assert_allclose(lengths(np.array([7.0]), np.ones(1)), np.exp(GROWTH), rtol=1e-6)


def test_steps_without_observations_leave_it_alone():
    """They do not count, and their losses are not averaged."""
    losses = np.array([2.0, 1.5, 90.0, 90.0, 1.4, 1.3])
    active = np.array([True, True, False, False, True, True])
    found = lengths(losses, np.ones(6), active)
    np.testing.assert_array_equal(found[1:4], np.broadcast_to(found[1], 3))
    np.testing.assert_array_equal(found[active], lengths(losses[active], np.ones(4)))
