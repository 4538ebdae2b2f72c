"""The paper's schedule and counts against the reference."""

import jax
import numpy as np
import pytest

from bap_jax.errors import UserError
from bap_jax.pruning import GradualSchedule
from bap_jax.pruning.counting import kept_count
from tests import golden_files


def golden_schedule(name, **defaults):
    """The schedule of the entry `name` and its final sparsity; `defaults` where there is none."""
    entry = golden_files.Settings(name, golden_files.SETTINGS.get(name, defaults))
    with entry as settings:
        schedule = GradualSchedule(
            settings.take("last_pruning_epoch"),
            settings.take("pruning_frequency", 1),
            settings.take("sparsity_initial", 0.0),
            settings.take("init_pruning_epoch", 0),
        )
        return schedule, settings.take("sparsity_final")


@pytest.mark.parametrize("name", golden_files.cases("d/sched/", "amount"))
def test_golden_schedule(name):
    case = golden_files.case(f"d/sched/{name}")
    schedule, target = golden_schedule(f"d/sched/{name}")
    epochs = range(len(case["amount"]))
    amounts = [schedule.get_sparsity_at_step(target, epoch) for epoch in epochs]
    np.testing.assert_allclose(amounts, case["amount"], atol=1e-12)
    traced = jax.vmap(lambda epoch: schedule.get_sparsity_at_step(target, epoch))
    np.testing.assert_allclose(traced(np.array(epochs)), case["amount"], atol=2e-7)
    due = [schedule.is_mask_update_iter(epoch) for epoch in epochs]
    np.testing.assert_array_equal(due, case["should_sparsify"])


@pytest.mark.parametrize("name", golden_files.cases("d/", "amount_numel_pruned"))
def test_golden_counts(name):
    apart = golden_files.SETTINGS.get(f"d/{name}/differs_from_exact_rational", [])
    for amount, size, pruned in [*golden_files.ARRAYS[f"d/{name}/amount_numel_pruned"], *apart]:
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
