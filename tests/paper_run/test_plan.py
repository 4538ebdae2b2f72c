"""Settings, splits and pixels are those of the experiment file."""

import numpy as np

from bap_jax import config
from bap_jax.task import load_splits
from bap_jax.training import Settings
from tests.experiment_files import config_of
from tests.paper_run.modules import module


def test_the_plan_is_that_of_the_experiment_file():
    plan = module("paper_plan").Plan()
    for method, sparsity, seed in (("nft", 0.925, 0), ("ceag", 0.95, 1)):
        experiment = config_of("cifar100")
        experiment.method, experiment.pruning.sparsity, experiment.seed = method, sparsity, seed
        experiment.dual.rule, experiment.constraint.el_absolute = "ascent", True  # the paper's
        expected = config.to_settings(config.to_plain(experiment))
        as_json = module("paper_programs").as_json
        assert as_json(plan.settings(method, sparsity, seed)) == as_json(expected)
    parts = module("paper_data")
    assert experiment.data.validation_fraction == parts.VALIDATION_FRACTION
    assert experiment.data.split_seed == parts.SPLIT_SEED
    assert experiment.data.augmentation == parts.AUGMENTATION
    assert (experiment.model.depth, experiment.model.width) == (plan.depth, plan.width)


def test_networks_are_named_by_method_sparsity_and_seed():
    networks = module("paper_plan").Plan().networks("ceag")
    assert list(networks) == [
        *("ceag-0.925-seed0", "ceag-0.925-seed1", "ceag-0.95-seed0", "ceag-0.95-seed1"),
    ]
    assert networks["ceag-0.95-seed1"].pruning.sparsity == 0.95


def test_settings_of_any_method_can_be_kept_as_text():
    text = module("paper_programs").as_json(Settings("el"))
    assert text["method"] == "el" and text["dual.bound"] == "inf"
    assert text["optimizer.milestones"] == [0.6, 0.8, 0.9]


def test_split_and_pixels_are_those_of_the_experiment(tmp_path):
    """From `cifar100.npz`, as `bap_jax.main` reads it."""
    rng, arrays = np.random.default_rng(0), {}
    for split, each in (("train", 20), ("test", 2)):
        labels = rng.permutation(np.repeat(np.arange(100), each)).astype(np.uint8)
        arrays[f"x_{split}"] = rng.integers(0, 256, (len(labels), 32, 32, 3)).astype(np.uint8)
        arrays |= {f"y_{split}": labels, f"y_{split}_coarse": labels // 5}
    np.savez(tmp_path / "cifar100.npz", **arrays)
    of_file = config.to_plain(config_of("cifar100"))["data"] | {"dir": str(tmp_path)}
    expected = load_splits(of_file)[0]
    found = module("paper_data").load(tmp_path / "cifar100.npz")
    for i, name in enumerate(("train", "validation", "test")):
        one, other = getattr(found.splits, name), getattr(expected, name)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.inputs[5], other.inputs.take(np.array([5]))[0])
        assert (found.split_of == i).sum() == one.size
    assert found.splits.num_classes == 100
