"""The paper's schedule and counts against the reference."""

import jax
import numpy as np
import pytest

from bap_jax.pruning import GradualSchedule
from bap_jax.pruning.counting import kept_count
from bap_jax.types import UserError
from tests import golden_files


def golden_schedule(name):
    settings = golden_files.SETTINGS[f"d/sched/{name}"]
    return GradualSchedule(
        settings["last_pruning_epoch"],
        settings.get("pruning_frequency", 1),
        settings.get("sparsity_initial", 0.0),
    )


@pytest.mark.parametrize("name", golden_files.cases("d/sched/", "amount"))
def test_golden_schedule(name):
    case, schedule = golden_files.case(f"d/sched/{name}"), golden_schedule(name)
    target = golden_files.SETTINGS[f"d/sched/{name}"]["sparsity_final"]
    epochs = range(len(case["amount"]))
    amounts = [schedule.get_sparsity_at_step(target, epoch) for epoch in epochs]
    np.testing.assert_allclose(amounts, case["amount"], atol=1e-12)
    traced = jax.vmap(lambda epoch: schedule.get_sparsity_at_step(target, epoch))
    np.testing.assert_allclose(traced(np.array(epochs)), case["amount"], atol=2e-7)
    due = [schedule.is_mask_update_iter(epoch) for epoch in epochs]
    np.testing.assert_array_equal(due, case["should_sparsify"])


def test_golden_counts():
    for amount, size, pruned in golden_files.ARRAYS["d/ceil/amount_numel_pruned"]:
        assert int(size) - kept_count("ceil", float(amount), int(size)) == pruned


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ((5, 1, -0.1), r"initial sparsity must lie in \[0, 1\)"),
        ((-1,), "last pruning epoch must be a whole number ≥ 0; got -1"),
        ((5, 0), "pruning frequency must be a whole number ≥ 1; got 0"),
    ],
)
def test_errors(options, text):
    with pytest.raises(UserError, match=text):
        GradualSchedule(*options)
