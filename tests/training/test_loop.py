"""The loop and the evaluation of whole splits."""

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import data, pipeline, reporting, training
from bap_jax.constraints import DenseReference
from bap_jax.errors import UserError
from bap_jax.lagrangian import OVERALL_TERMS
from bap_jax.training import methods
from bap_jax.training.settings import (
    BaselineSettings,
    ConstraintSettings,
    DualSettings,
    OptimizerSettings,
    PruningSettings,
    Settings,
)
from bap_jax.types import Dataset
from tests.step_rows import step_row
from tests.tuning import prune_and_tune

SHORT = Settings(
    selection="best", pruning=PruningSettings(sparsity=0.9, epochs=2), finetune_epochs=3
)


def test_evaluation_is_a_plain_mean(digits_splits, small_dense):
    model, dense = small_dense
    split = digits_splits.validation
    logits = jax.jit(lambda inputs: model.apply(dense, inputs, train=False)[0])(split.inputs)
    right = np.asarray(logits).argmax(1) == split.labels
    for batch_size in (7, 50, 4096):
        means = training.make_evaluator(model, 10, batch_size)(dense, split)
        assert means.count == split.size
        assert means.accuracy == pytest.approx(right.mean(), abs=1e-9)
        expected = [right[split.group_ids[:, 0] == g].mean() for g in range(10)]
        np.testing.assert_allclose(means.group_accuracy, expected, atol=1e-9)


def test_reference_holds_frequencies_and_accuracies(digits_splits, small_dense):
    model, dense = small_dense
    means = training.make_evaluator(model, 10)(dense, digits_splits.train)
    reference = training.dense_reference(means)
    np.testing.assert_allclose(reference.frequency.sum(), 1, rtol=1e-6)
    total = reference.frequency @ reference.group_accuracy
    np.testing.assert_allclose(total, reference.accuracy, rtol=1e-6)


class Run(NamedTuple):
    """A whole run of CEAG, and the rows that it logged."""

    tuned: pipeline.TuningResult
    steps: list
    epochs: list


@pytest.fixture(scope="module")
def run(digits_splits, small_dense):
    """Its step may be traced once, over pruning and constraints alike."""
    rows, step = [], training.Trainer.step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Trainer, "step", chex.assert_max_traces(step, n=1))
        tuned = prune_and_tune(*small_dense, digits_splits, SHORT, log=rows.append)
    steps, epochs = [row for row in rows if "step" in row], [r for r in rows if "step" not in r]
    return Run(tuned, steps, epochs)


def test_metrics_come_for_every_step_in_order(digits_splits, run):
    per_epoch = data.num_batches(digits_splits.train.size, 128)
    assert [row["step"] for row in run.steps] == list(range(5 * per_epoch))
    assert [row["epoch"] for row in run.epochs] == list(range(5))
    sparsity = [row["sparsity"] for row in run.epochs]
    assert sparsity[1] < sparsity[2] == sparsity[4] == pytest.approx(0.9, abs=1e-3)
    assert all(row["min_group_weight"] > 0 for row in run.steps)


@pytest.mark.parametrize("method", ["ceag", "pairwise", "floor", "group_dro", "nft"])
@pytest.mark.parametrize("term", OVERALL_TERMS)
def test_rows_are_made_without_the_device(method, term):
    """A row must not wait for the step that was dispatched behind it."""
    dense = DenseReference(*np.ones((6, 3), np.float32))
    settings = dataclasses.replace(
        SHORT, method=method, constraint=ConstraintSettings(overall_term=term)
    )
    method = methods.build_method(dense, settings)
    size = method.constraint.size
    masks = np.ones(size, bool), np.zeros(size, bool)
    rows = np.ones(size, np.float32), np.zeros(size), np.full(size, np.nan)
    metrics = training.StepMetrics(np.float32(0.5), np.float32(0.9), np.float32(1), *rows, *masks)
    with jax.transfer_guard("disallow"):
        found = step_row(0, 0, metrics, np.full(3, 1 / 3, np.float32), method)
    assert isinstance(found["min_group_weight"], float) if size else len(found) == 4


def test_a_run_repeats_itself_and_the_test_part_has_no_say(digits_splits, small_dense, run):
    spoiled = digits_splits.test._replace(inputs=0 * digits_splits.test.inputs)
    again = prune_and_tune(*small_dense, digits_splits._replace(test=spoiled), SHORT)
    for which in ("pruned", "last"):
        one, other = getattr(again, which), getattr(run.tuned, which)
        chex.assert_trees_all_equal(one.variables, other.variables)
        assert one.score == other.score


def test_a_run_depends_on_its_seed(digits_splits, small_dense, run):
    settings = dataclasses.replace(SHORT, seed=1)
    other = prune_and_tune(*small_dense, digits_splits, settings)
    one, two = (reporting.tree_sha256(t.last.variables.params) for t in (run.tuned, other))
    assert one != two


def test_the_best_iterate_is_at_the_final_sparsity(run):
    final = [row for row in run.epochs if row["epoch"] >= 2]
    pruned = run.tuned.pruned
    assert pruned.epoch in [row["epoch"] for row in final]
    feasible = [r for r in final if r["validation_max_excess_gap"] <= SHORT.tolerance]
    if feasible:
        expected = max(feasible, key=lambda row: row["validation_accuracy"])
        assert pruned.score.accuracy == expected["validation_accuracy"]
    else:
        least = min(row["validation_max_excess_gap"] for row in final)
        assert pruned.score.max_excess_gap == least


def test_device_data_keeps_its_values():
    split = Dataset(np.arange(6.0).reshape(3, 2), np.array([2, 0, 1]), np.array([[1], [0], [1]]))
    placed = data.on_device(split)
    assert placed.labels.dtype == jnp.int32 and isinstance(placed.inputs, jax.Array)
    np.testing.assert_array_equal(placed.labels, split.labels)


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
        (
            {"dual": DualSettings(learning_rate=-1.0)},
            "dual.learning_rate must be a number ≥ 0; got -1.0",
        ),
        ({"optimizer": OptimizerSettings(milestones=(60,))}, r"fractions in \(0, 1\).*got 60"),
        ({"optimizer": DualSettings()}, r"optimizer must be a OptimizerSettings\(...\)"),
        ({"scheme": "newton"}, "unknown scheme 'newton'; known: simultaneous, dual_primal"),
        ({"seed": 0.5}, "seed must be an integer ≥ 0; got 0.5"),
        ({"dual": DualSettings("sgd")}, "unknown dual.rule 'sgd'; known: auto, ascent, nu_pi"),
        ({"dual": DualSettings(nu=1.0)}, r"dual.nu must lie in \(−1, 1\); got 1"),
        ({"dual": DualSettings(penalty_growth=0.9)}, "penalty_growth must be a factor ≥ 1; got 0"),
        ({"dual": DualSettings(weight_limit=0)}, "dual.weight_limit must be a number > 0; got 0"),
        ({"dual": DualSettings(start=-1.0)}, "dual.start must be a number ≥ 0; got -1.0"),
        (
            {"constraint": ConstraintSettings(estimator="paired", buffer_size=0)},
            "the paired estimator needs a buffer",
        ),
        ({"constraint": ConstraintSettings(proxy="mse")}, "constraint.proxy 'mse'; known: loss"),
        ({"constraint": ConstraintSettings(overall_term="no")}, "overall_term 'no'; known: full"),
        ({"constraint": ConstraintSettings(first_epoch=-2)}, "first_epoch must be an integer ≥ -1"),
        ({"constraint": ConstraintSettings(min_group_size=0)}, "min_group_size must be an integer"),
        ({"constraint": ConstraintSettings(el_bound=0)}, "el_bound must be a number > 0; got 0"),
        ({"baseline": BaselineSettings(class_balanced_beta=1.0)}, r"beta must lie in \[0, 1\)"),
    ],
)
def test_settings_that_no_run_can_have(change, text):
    with pytest.raises(UserError, match=text):
        training.check_settings(dataclasses.replace(Settings(), **change))
