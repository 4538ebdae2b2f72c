"""Does it work, and does it not blow up: the digits experiment as documented, over seeds."""

from pathlib import Path

import numpy as np
import pytest

from bap_jax import experiment

SOURCE = Path(__file__).parents[1] / "experiments" / "digits.py"


def last_on_train(workdir, method, seed, sparsity, rate=None):
    """Accuracy and largest excess gap of the last iterate on the training split, in percent."""
    scope = {}
    exec(compile(SOURCE.read_text(), SOURCE, "exec"), scope)
    config = scope["get_config"]()
    config.method, config.seed, config.pruning.sparsity = method, seed, sparsity
    if rate is not None:
        config.dual.rule, config.dual.learning_rate = "ascent", rate
        config.constraint.el_absolute = True
    split = experiment.run_experiment(config, workdir)["last"]["splits"]["train"]
    return 100 * split["sparse_accuracy"], 100 * split["max_excess_gap"]


@pytest.mark.slow
def test_constraints_hold_on_the_training_split(tmp_path):
    found = {
        (method, sparsity): np.array(
            [last_on_train(tmp_path / str(sparsity), method, s, sparsity) for s in range(5)]
        )
        for sparsity in (0.95, 0.98)
        for method in ("nft", "ceag")
    }
    nft, ceag = found["nft", 0.95], found["ceag", 0.95]
    assert (ceag[:, 1] <= 1.2).sum() >= 4
    assert ceag[:, 0].mean() >= nft[:, 0].mean() - 0.5
    assert found["ceag", 0.98][:, 1].mean() <= found["nft", 0.98][:, 1].mean() / 5


@pytest.mark.slow
@pytest.mark.parametrize(("sparsity", "rate"), [(0.98, 0.1), (0.95, 0.3), (0.95, 1.0)])
@pytest.mark.parametrize("method", ["ceag", "el"])
def test_high_dual_rates_do_not_blow_up(tmp_path, method, sparsity, rate):
    for seed in range(2):
        accuracy, _ = last_on_train(tmp_path, method, seed, sparsity, rate)
        plain, _ = last_on_train(tmp_path, "nft", seed, sparsity, rate)
        assert accuracy >= plain - 5


@pytest.mark.slow
def test_one_run_where_the_paper_diverges(tmp_path):
    accuracy, _ = last_on_train(tmp_path, "ceag", 0, 0.95, 1.0)
    assert accuracy > 97
