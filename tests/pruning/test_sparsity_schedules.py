"""Schedules: closed forms, phase, the target at the end, epochs; traced steps as concrete ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.pruning import (
    GradualSchedule,
    InEpochs,
    NoUpdateSchedule,
    OneShotSchedule,
    PeriodicSchedule,
    PolynomialSchedule,
)

SCHEDULES = [
    NoUpdateSchedule(),
    OneShotSchedule(7),
    PeriodicSchedule(3, 2, None),
    PeriodicSchedule(3, 2, 10),
    PeriodicSchedule(3, 2, 10, aligned=False),
    PolynomialSchedule(4, 3, 17),
    PolynomialSchedule(5, 3, 18, aligned=False),
    PolynomialSchedule(1, 5, 5),
    PolynomialSchedule(2, 0, 12, power=1),
    GradualSchedule(0),
    GradualSchedule(6),
    GradualSchedule(7, frequency=3, initial=0.2),
    GradualSchedule(11, frequency=4, initial=0.2, first_epoch=5),
    GradualSchedule(5, first_epoch=5),
    InEpochs(GradualSchedule(4), steps_per_epoch=5),
    InEpochs(NoUpdateSchedule(), steps_per_epoch=5),
]
STEPS = range(30)


def due(schedule, steps=STEPS):
    return [step for step in steps if schedule.is_mask_update_iter(step)]


def sparsity(schedule, step, target=0.9):
    return float(schedule.get_sparsity_at_step({"w": target, "b": None}, step)["w"])


def test_updates_count_from_the_start():
    assert due(PeriodicSchedule(3, 2, 11)) == [2, 5, 8, 11]
    assert due(PeriodicSchedule(3, 2, None)) == list(range(2, 30, 3))
    assert due(PeriodicSchedule(5, 4, 4)) == [4]


def test_the_last_step_is_an_update_whatever_the_frequency():
    assert due(PeriodicSchedule(3, 2, 10)) == [2, 5, 8, 10]
    assert due(PeriodicSchedule(100, 2, 10)) == [2, 10]


def test_without_alignment_updates_are_at_multiples_of_the_frequency():
    assert due(PeriodicSchedule(3, 2, 10, aligned=False)) == [3, 6, 9]
    assert due(PeriodicSchedule(5, 1, 4, aligned=False)) == []


def test_schedules_with_one_update_or_none():
    assert due(NoUpdateSchedule()) == []
    assert due(OneShotSchedule(7)) == [7]
    assert due(OneShotSchedule(0)) == [0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_the_last_update_step_is_where_updates_end(schedule):
    last = schedule.last_update_step
    assert last is None or due(schedule, range(60))[-1:] == ([last] if last >= 0 else [])


@pytest.mark.parametrize(("power", "half"), [(1, 0.5), (3, 0.875)])
def test_polynomial_closed_form(power, half):
    schedule = PolynomialSchedule(1, 2, 10, power=power)
    for step in range(2, 11):
        progress = min((step + 1 - 2) / 8, 1)
        expected = 0.9 * (1 - (1 - progress) ** power)
        assert sparsity(schedule, step) == pytest.approx(expected, rel=1e-6)
    assert sparsity(schedule, 5) == pytest.approx(0.9 * half, rel=1e-6)
    assert sparsity(schedule, 0) == 0


ENDING = [schedule for schedule in SCHEDULES if schedule.last_update_step not in (None, -1)]


@pytest.mark.parametrize("schedule", ENDING, ids=repr)
def test_the_target_is_reached_by_the_last_update(schedule):
    if schedule == PolynomialSchedule(5, 3, 18, aligned=False):  # its last update is at step 15
        assert sparsity(schedule, 15) == pytest.approx(0.9 * (1 - (2 / 15) ** 3), rel=1e-6)
        assert sparsity(schedule, 15) < 0.898
    else:
        found = sparsity(schedule, schedule.last_update_step)
        assert np.float32(found) == np.float32(0.9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_traced_steps_give_what_concrete_ones_give(schedule):
    @jax.jit
    @jax.vmap
    def traced(step):
        found = schedule.get_sparsity_at_step({"w": 0.9, "b": None}, step)
        return schedule.is_mask_update_iter(step), found["w"]

    updates, sparsities = traced(jnp.arange(len(STEPS)))
    assert np.flatnonzero(updates).tolist() == due(schedule)
    expected = [sparsity(schedule, step) for step in STEPS]
    np.testing.assert_allclose(sparsities, expected, rtol=2e-6, atol=1e-7)


def test_each_tensor_has_its_own_target_and_unpruned_ones_none():
    targets = {"a": 0.8, "b": None, "c": [0.4]}
    halfway = PolynomialSchedule(1, 0, 4, power=1).get_sparsity_at_step(targets, 1)
    assert halfway["b"] is None
    np.testing.assert_allclose([halfway["a"], halfway["c"][0]], [0.4, 0.2], rtol=1e-6)


def test_gradual_closed_form():
    schedule = GradualSchedule(10, initial=0.1)
    expected = [0.9 + (0.1 - 0.9) * (1 - t / 10) ** 3 for t in range(10)] + [0.9] * 3
    assert sparsity(schedule, 0) == 0.1 and sparsity(schedule, 10) == 0.9
    found = [sparsity(schedule, step) for step in range(13)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(schedule.tabulate(0.9), found[:11])


def test_gradual_from_a_later_epoch_is_the_same_rise_later():
    late, early = GradualSchedule(14, 3, 0.2, first_epoch=4), GradualSchedule(10, 3, 0.2)
    assert due(late) == [4 + step for step in due(early)] == [4, 7, 10, 13, 14]
    assert [sparsity(late, step) for step in range(4)] == [0.2] * 4
    rise = [sparsity(early, step) for step in range(12)]
    assert [sparsity(late, 4 + step) for step in range(12)] == rise
    np.testing.assert_array_equal(late.tabulate(0.9), [0.2] * 4 + rise[:11])
    assert due(GradualSchedule(6, initial=0.9, first_epoch=6)) == [6]


def test_gradual_updates_every_so_many_epochs_and_at_the_last():
    assert due(GradualSchedule(7, frequency=3)) == [0, 3, 6, 7]
    assert due(GradualSchedule(2)) == [0, 1, 2]
    assert due(GradualSchedule(0)) == [0]
    assert sparsity(GradualSchedule(0), 0) == 0.9


def test_a_schedule_in_epochs_acts_as_epochs_begin():
    epochs = GradualSchedule(6, frequency=4, initial=0.3)
    steps = InEpochs(epochs, steps_per_epoch=5)
    assert due(steps, range(60)) == [5 * epoch for epoch in due(epochs)] == [0, 20, 30]
    assert steps.last_update_step == 30
    for step in range(50):
        assert sparsity(steps, step) == sparsity(epochs, step // 5)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: OneShotSchedule(-1), "target_step must be a whole number ≥ 0; got -1"),
        (lambda: PeriodicSchedule(0, 0, 5), "update_freq must be a whole number ≥ 1; got 0"),
        (lambda: PeriodicSchedule(1.5, 0, 5), "update_freq must be a whole number ≥ 1; got 1.5"),
        (lambda: PeriodicSchedule(1, -2, 5), "update_start_step must be a whole .* got -2"),
        (lambda: PeriodicSchedule(1, 6, 5), "cannot be smaller than.*got end 5 and start 6"),
        (lambda: PolynomialSchedule(1, 6, 5), "cannot be smaller than.*got end 5 and start 6"),
        (lambda: PolynomialSchedule(1, 0, None), "polynomial schedule needs an update_end_step"),
        (lambda: GradualSchedule(-1), "last pruning epoch must be a whole number ≥ 0; got -1"),
        (lambda: GradualSchedule(3, 0), "pruning frequency must be a whole number ≥ 1; got 0"),
        (lambda: GradualSchedule(3, initial=1.0), r"initial sparsity must lie in \[0, 1\); got 1"),
        (lambda: GradualSchedule(3, first_epoch=-1), "first pruning epoch must be a whole number"),
        (
            lambda: GradualSchedule(3, first_epoch=4),
            "cannot come after the last; got first 4",
        ),
        (lambda: GradualSchedule(float("nan")), "whole number ≥ 0; got nan"),
        (lambda: InEpochs(GradualSchedule(3), 0), "steps_per_epoch must be a whole number ≥ 1"),
    ],
)
def test_errors(build, text):
    with pytest.raises(UserError, match=text):
        build()
