"""The loop and the evaluation of whole parts."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import data, metric_rows, pipeline, training
from bap_jax.training.settings import (
    ConstraintSettings,
    DualSettings,
    OptimizerSettings,
    PruningSettings,
    Settings,
    check_settings,
)
from bap_jax.types import Dataset, UserError

SHORT = Settings(pruning=PruningSettings(sparsity=0.9, epochs=2), finetune_epochs=3)


def test_evaluation_is_a_plain_mean(digits_parts, small_dense):
    model, dense = small_dense
    part = digits_parts.validation
    logits, _ = model.apply(dense, part.inputs, train=False)
    right = np.asarray(logits).argmax(1) == part.labels
    for batch_size in (7, 50, 4096):
        means = training.make_evaluator(model, 10, batch_size)(dense, part)
        assert means.count == part.size
        assert means.accuracy == pytest.approx(right.mean(), abs=1e-9)
        expected = [right[part.group_ids[:, 0] == g].mean() for g in range(10)]
        np.testing.assert_allclose(means.group_accuracy, expected, atol=1e-9)


def test_reference_holds_frequencies_and_accuracies(digits_parts, small_dense):
    model, dense = small_dense
    means = training.make_evaluator(model, 10)(dense, digits_parts.train)
    reference = training.dense_reference(means)
    np.testing.assert_allclose(reference.frequency.sum(), 1, rtol=1e-6)
    total = reference.frequency @ reference.group_accuracy
    np.testing.assert_allclose(total, reference.accuracy, rtol=1e-6)


def test_the_step_is_traced_once_a_run(digits_parts, small_dense, monkeypatch):
    traced = []
    build = training.make_trainer

    def counting(*args, **options):
        trainer = build(*args, **options)
        traced.append(chex.assert_max_traces(trainer.step, n=1))
        return trainer._replace(step=traced[-1])

    monkeypatch.setattr(training, "make_trainer", counting)
    pipeline.prune_and_tune(*small_dense, digits_parts, SHORT)
    assert traced


def test_metrics_come_for_every_step_in_order(digits_parts, small_dense):
    rows = []
    pipeline.prune_and_tune(*small_dense, digits_parts, SHORT, log=rows.append)
    steps = [row for row in rows if "step" in row]
    epochs = [row for row in rows if "validation_accuracy" in row]
    per_epoch = data.num_batches(digits_parts.train.size, 128)
    assert [row["step"] for row in steps] == list(range(5 * per_epoch))
    assert [row["epoch"] for row in epochs] == list(range(5))
    assert epochs[1]["sparsity"] < epochs[2]["sparsity"] == epochs[4]["sparsity"]
    assert epochs[4]["sparsity"] == pytest.approx(0.9, abs=1e-3)
    assert all(row["min_group_weight"] > 0 for row in steps)


def test_rows_are_made_without_the_device():
    """A row must not wait for the step that was dispatched behind it."""
    row = (np.float32(0.5), np.float32(0.9), np.float32(0.6), np.ones(3, np.float32))
    metrics = training.StepMetrics(*row, np.full(3, np.nan), np.zeros(3))
    with jax.transfer_guard("disallow"):
        for term in ("full", "detached", "clipped"):
            settings = dataclasses.replace(SHORT, constraint=ConstraintSettings(overall_term=term))
            found = metric_rows.step_row(0, 0, metrics, np.full(3, 1 / 3, np.float32), settings)
            assert isinstance(found["min_group_weight"], float)


def test_a_run_repeats_itself_and_depends_on_its_seed(digits_parts, small_dense):
    hashes = []
    for seed in (0, 0, 1):
        settings = dataclasses.replace(SHORT, seed=seed)
        tuned = pipeline.prune_and_tune(*small_dense, digits_parts, settings)
        report = pipeline.judge(*small_dense, tuned, digits_parts, settings)
        hashes.append((report["params_sha256"], report["last"]["params_sha256"]))
    assert hashes[0] == hashes[1] and hashes[0][1] != hashes[2][1]


def test_the_test_part_has_no_say(digits_parts, small_dense):
    spoiled = digits_parts.test._replace(inputs=0 * digits_parts.test.inputs)
    both = [
        pipeline.prune_and_tune(*small_dense, parts, SHORT)
        for parts in (digits_parts, digits_parts._replace(test=spoiled))
    ]
    chex.assert_trees_all_equal(both[0].selected.variables, both[1].selected.variables)
    assert both[0].selected.score == both[1].selected.score


def test_the_selected_iterate_is_at_the_final_sparsity(digits_parts, small_dense):
    rows = []
    tuned = pipeline.prune_and_tune(*small_dense, digits_parts, SHORT, log=rows.append)
    final = [r for r in rows if "validation_accuracy" in r and r["epoch"] >= 2]
    assert tuned.selected.epoch in [row["epoch"] for row in final]
    feasible = [r for r in final if r["validation_max_excess_gap"] <= SHORT.tolerance]
    if feasible:
        expected = max(feasible, key=lambda row: row["validation_accuracy"])
        assert tuned.selected.score.accuracy == expected["validation_accuracy"]
    else:
        least = min(row["validation_max_excess_gap"] for row in final)
        assert tuned.selected.score.max_excess_gap == least


def test_divergence_stops_the_run_and_says_where(digits_parts, small_dense):
    settings = dataclasses.replace(SHORT, optimizer=OptimizerSettings(1e30))
    with pytest.raises(training.DivergedError, match=r"is (nan|inf) at step \d+ \(epoch \d+\)"):
        pipeline.prune_and_tune(*small_dense, digits_parts, settings)


def test_device_data_keeps_its_values():
    part = Dataset(np.arange(6.0).reshape(3, 2), np.array([2, 0, 1]), np.array([[1], [0], [1]]))
    placed = data.on_device(part)
    assert placed.labels.dtype == jnp.int32 and isinstance(placed.inputs, jax.Array)
    np.testing.assert_array_equal(placed.labels, part.labels)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"method": "dro"}, "unknown method 'dro'; known: nft, el, ceag"),
        ({"tolerance": -0.01}, "tolerance must be a number ≥ 0.*got -0.01"),
        ({"tolerance": float("nan")}, "tolerance must be a number ≥ 0.*got nan"),
        ({"batch_size": 0}, "batch_size must be an integer ≥ 1; got 0"),
        ({"finetune_epochs": 0}, "finetune_epochs must be an integer ≥ 1; got 0"),
        (
            {"pruning": PruningSettings(sparsity=1.0)},
            r"pruning.sparsity must lie in \[0, 1\).*got 1",
        ),
        ({"pruning": PruningSettings(sparsity=-0.1)}, r"pruning.sparsity must lie in \[0, 1\)"),
        (
            {"pruning": PruningSettings(epochs=1.5)},
            "pruning.epochs must be an integer ≥ 0; got 1.5",
        ),
        ({"dual": DualSettings(-1.0)}, "dual.learning_rate must be a number ≥ 0; got -1.0"),
        ({"optimizer": OptimizerSettings(milestones=(60,))}, r"fractions in \(0, 1\).*got 60"),
    ],
)
def test_settings_that_no_run_can_have(change, text):
    with pytest.raises(UserError, match=text):
        check_settings(dataclasses.replace(Settings(), **change), tuple(training.METHODS))
