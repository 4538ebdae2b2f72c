"""Learning rates by step, at points worked by hand."""

import jax
import numpy as np
import optax
import pytest

import bap_jax
from bap_jax.errors import UserError
from bap_jax.training import SCHEDULES, OptimizerSettings, StepCount
from bap_jax.training.schedules import learning_rate

STEPS = StepCount(40, 4)  # ten epochs


def rates(steps=range(41), **options):
    rate = learning_rate(OptimizerSettings(0.5, **options), STEPS)
    return np.array([rate(step) if callable(rate) else rate for step in steps], float)


@pytest.fixture
def registry():
    """The schedules; what a test registers is forgotten after it."""
    before = dict(SCHEDULES)
    yield SCHEDULES
    SCHEDULES.clear()
    SCHEDULES.update(before)


def test_constant_is_a_number():
    assert learning_rate(OptimizerSettings(0.5, schedule="constant"), STEPS) == 0.5


def test_step_falls_at_the_milestones():
    found = rates((23, 24, 31, 32, 35, 36, 40))
    np.testing.assert_allclose(found, [0.5, 0.05, 0.05, 0.005, 0.005, 5e-4, 5e-4], rtol=1e-5)


def test_cosine_is_that_of_optax():
    expected = [optax.cosine_decay_schedule(0.5, 40)(step) for step in range(41)]
    np.testing.assert_allclose(rates(schedule="cosine"), expected, atol=1e-7)
    np.testing.assert_allclose(rates((0, 20, 40), schedule="cosine"), [0.5, 0.25, 0], atol=1e-7)


def test_linear_ends_at_zero_and_stays_there():
    found = rates((0, 10, 40, 50), schedule="linear")
    np.testing.assert_allclose(found, [0.5, 0.375, 0, 0], atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_grows_during_the_warm_up(schedule):
    """Over a fifth of the steps; what falls without an end falls after it, over the others."""
    found = rates(schedule=schedule, warmup=0.2)
    np.testing.assert_allclose(found[:8], 0.5 * np.arange(1, 9) / 8, rtol=1e-6)
    expected = {"step": 0.5, "constant": 0.5, "cosine": 0.25, "linear": 0.25}
    assert found[8] == pytest.approx(0.5) and found[23] <= 0.5
    np.testing.assert_allclose(
        rates((24 - (schedule == "step"),), schedule=schedule, warmup=0.2),
        expected[schedule],
        rtol=1e-6,
    )


def test_rates_may_be_arrays():
    def at_ten(rate):
        return learning_rate(OptimizerSettings(rate, schedule="linear", warmup=0.1), STEPS)(10)

    found = jax.vmap(at_ten)(np.array([1.0, 2.0]))
    np.testing.assert_allclose(found, [1 - 6 / 36, 2 * (1 - 6 / 36)], rtol=1e-6)


def halves(settings, steps):
    return lambda step: settings.learning_rate * 0.5 ** (step // steps.per_epoch)


@pytest.mark.parametrize("schedule", [halves, "mine", "tests.training.test_schedules:halves"])
def test_a_schedule_of_ones_own(schedule, registry):
    bap_jax.register_schedule("mine", halves)
    bap_jax.register_schedule("mine", halves)  # as a config file that is read twice
    np.testing.assert_array_equal(rates((0, 4, 9), schedule=schedule), [0.5, 0.25, 0.125])
    np.testing.assert_array_equal(rates((0, 4), schedule=schedule, warmup=0.05), [0.25, 0.25])


@pytest.mark.parametrize(
    ("name", "build", "text"),
    [
        ("cosine", halves, "schedule 'cosine' exists already; .*register_schedule"),
        ("a b", halves, "the name of a schedule consists of letters"),
        ("mine", lambda step: step, r"function \(settings, steps\) -> schedule"),
        ("mine", 0.1, "schedule 'mine' must be a function; got 0.1"),
    ],
)
def test_mistakes_when_registering(name, build, text, registry):
    before = dict(registry)
    with pytest.raises(UserError, match=text):
        bap_jax.register_schedule(name, build)
    assert registry == before
