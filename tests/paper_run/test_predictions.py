"""Predictions are those of the network, the file of them grows, and the table counts right."""

import jax
import numpy as np
import pytest

from bap_jax import training
from tests.paper_run.modules import module


def test_flips_gaps_and_chance_of_a_table_counted_by_hand():
    """Group 0 loses two of four, group 1 wins one of four: Δ = 1/8, ψ = (3/8, −3/8)."""
    groups = np.repeat([0, 1], 4)
    dense, sparse = np.array([[1, 1, 1, 0, 1, 0, 0, 1], [0, 0, 1, 0, 1, 1, 0, 1]], bool)
    found = module("paper_predictions").harm(dense, sparse, groups)
    assert (found.accuracy, found.largest_gap, found.flips) == (50, 37.5, 37.5)
    assert 0 < found.by_chance < 37.5
    nothing = module("paper_predictions").harm(dense, dense, groups)
    assert nothing == (62.5, 0, 0, 0)


def test_chance_is_what_the_normal_approximation_gives():
    """E[max ψ] ≈ 1.54 √(d (1 − 1/10) / n_g) for ten groups: d = .2, n_g = 500, all harmed alike."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 500)
    dense = rng.random(5000) < 0.7
    sparse = dense ^ (rng.random(5000) < 0.2)
    found = module("paper_predictions").harm(dense, sparse, groups)
    lost = dense.astype(float) - sparse
    expected = 154 * np.sqrt(lost.var() * 0.9 / 500)
    assert found.by_chance == pytest.approx(expected, rel=0.08)


def test_predictions_agree_with_the_library(small_dense, digits_splits, context):
    model, variables = small_dense
    predict = module("paper_predictions").Predict(model, digits_splits.test.inputs, 10, 100)
    found = predict(variables)
    accuracy = (found.classes == digits_splits.test.labels).mean()
    assert accuracy == pytest.approx(context.evaluate(variables, "test").accuracy)
    logits = training.predict(model, variables, digits_splits.test)
    assert found.classes.dtype == np.uint8 and found.confidence.dtype == np.float16
    confidence = np.asarray(jax.nn.softmax(logits).max(-1))
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-3)


def predicted(seed):
    rng = np.random.default_rng(seed)
    make = module("paper_predictions").Predicted
    return make(rng.integers(0, 4, 40).astype(np.uint8), rng.random(40).astype(np.float16))


def test_predictions_are_added_to_and_read_without_pickle(tmp_path):
    make, labels = module("paper_predictions").Predictions, np.arange(40) % 4
    split_of = np.repeat([0, 1, 2], [20, 8, 12]).astype(np.uint8)
    mine = make(tmp_path, {"epochs": 60})
    mine.add_dense(labels, labels, split_of, predicted(0))
    mine.add(["nft"], [{"seed": 0}], [predicted(1)], [False], {})
    mine = make(tmp_path, {"epochs": 60})
    mine.add(["ceag"], [{"seed": 1}], [predicted(2)], [True], {"device": "cpu"})
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as file:
        arrays = dict(file)
    assert arrays["members"].tolist() == ["nft", "ceag"] == mine.members
    np.testing.assert_array_equal(arrays["sparse_class"][1], predicted(2).classes)
    assert arrays["diverged"].tolist() == [False, True]
    mine.check_member("ceag", {"seed": 1})
    with pytest.raises(ValueError, match="ceag was made with seed=1, not 2"):
        mine.check_member("ceag", {"seed": 2})
    with pytest.raises(ValueError, match="was made with epochs=60, not 59"):
        make(tmp_path, {"epochs": 59})
    text = module("paper_predictions").table(arrays)
    assert "mostly chance" in text and text.splitlines()[-1].endswith("diverged")
