"""Schedules and counts against the reference."""

import numpy as np
import pytest

from bap_jax.pruning import GradualSchedule, schedules
from bap_jax.types import UserError
from tests import golden_files


def golden_schedule(name):
    settings = golden_files.SETTINGS[f"d/sched/{name}"]
    return GradualSchedule(
        settings["sparsity_final"],
        settings["last_pruning_epoch"],
        settings.get("sparsity_initial", 0.0),
        settings.get("pruning_frequency", 1),
    )


@pytest.mark.parametrize("name", golden_files.cases("d/sched/", "amount"))
def test_golden_schedule(name):
    case, schedule = golden_files.case(f"d/sched/{name}"), golden_schedule(name)
    epochs = range(len(case["amount"]))
    amounts = [schedules.sparsity_at(schedule, epoch) for epoch in epochs]
    np.testing.assert_allclose(amounts, case["amount"], atol=1e-12)
    due = [schedules.prunes_at(schedule, epoch) for epoch in epochs]
    np.testing.assert_array_equal(due, case["should_sparsify"])


def test_golden_counts():
    for amount, size, pruned in golden_files.ARRAYS["d/ceil/amount_numel_pruned"]:
        assert schedules.pruned_count(amount, int(size)) == pruned


def test_a_schedule_with_gaps_keeps_its_count_between_prunings():
    schedule = GradualSchedule(0.9, 5, frequency=2)
    counts = schedules.pruned_counts(schedule, [100])[:, 0]
    expected = [schedules.pruned_count(schedules.sparsity_at(schedule, t), 100) for t in (0, 2, 4)]
    np.testing.assert_array_equal(counts, [*np.repeat(expected, 2)[:5], 90])


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (GradualSchedule(1.0, 5), r"final sparsity must lie in \[0, 1\).*got 1.0.*write 0.95"),
        (GradualSchedule(0.5, 5, -0.1), r"initial sparsity must lie in \[0, 1\)"),
        (GradualSchedule(0.5, -1), "last pruning epoch must be at least 0, got -1"),
        (GradualSchedule(0.5, 5, frequency=0), "frequency must be at least 1 epoch, got 0"),
    ],
)
def test_errors(schedule, text):
    with pytest.raises(UserError, match=text):
        schedules.check_schedule(schedule)
