"""Every rule of selection on whole runs: the same network in every mode of execution."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import Model, Variables, data, pipeline, training
from bap_jax.data.batches import epoch_indices
from bap_jax.errors import UserError
from bap_jax.pipeline.averaging import RunningMean, num_averaged
from bap_jax.training import Execution
from bap_jax.training.settings import SELECTIONS, OptimizerSettings, PruningSettings, Settings
from bap_jax.types import Dataset
from tests.pipeline.test_final_evaluation import with_records

SETTINGS = Settings(
    "nft",
    batch_size=100,
    optimizer=OptimizerSettings(0.3, momentum=0.0, milestones=()),
    pruning=PruningSettings(sparsity=0.8, epochs=2, prunable="kernels"),
    finetune_epochs=6,
)


def settings_of(selection, **changes):
    return dataclasses.replace(SETTINGS, selection=selection, **changes)


def run(model, dense, splits, runs, **how):
    context = pipeline.make_context(model, dense, splits, Execution(**how))
    return context, pipeline.make_tuner(context, runs[0]).run(runs)


@pytest.fixture(scope="module")
def every_iterate(digits_splits, small_dense):
    """The network at the end of each epoch of the run, each as the last of a shorter run."""
    model, dense = small_dense
    context = pipeline.make_context(model, dense, digits_splits)
    found = []
    for count in range(1, 7):
        shorter = settings_of("last", finetune_epochs=count)
        found.append(pipeline.tune_one(pipeline.make_tuner(context, shorter), shorter).last)
    return context, found


def correct(context, snapshot):
    predicted = context.evaluate(snapshot.variables, "validation").predicted
    return predicted == context.splits.validation.labels


def same(one, other, atol=1e-6):
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=atol)  # noqa: E731
    jax.tree.map(close, one.variables.params, other.variables.params)


def expected_epoch(context, snapshots, rule):
    """The rule in plain words over all iterates, 2 … 7."""
    dense = context.dense_means("validation").predicted == context.splits.validation.labels
    bits = [correct(context, snapshot) for snapshot in snapshots]
    accuracy = [part.mean() for part in bits]
    if rule == "best":
        within = [s for s in snapshots if s.score.max_excess_gap <= SETTINGS.tolerance]
        key = (lambda s: s.score.accuracy) if within else (lambda s: -s.score.max_excess_gap)
        return max(within or snapshots, key=key).epoch
    if rule == "flips":
        near = [i for i in range(6) if accuracy[i] >= max(accuracy) - 0.003 - 1e-9]
        return 2 + min(near, key=lambda i: (np.mean(bits[i] != dense), -i))
    return 7


@pytest.mark.parametrize("rule", ["last", "flips", "paired", "best"])
def test_the_product_is_the_iterate_that_the_rule_names(rule, every_iterate):
    context, snapshots = every_iterate
    tuned = pipeline.tune_one(pipeline.make_tuner(context, settings_of(rule)), settings_of(rule))
    expected = expected_epoch(context, snapshots, rule)
    assert tuned.pruned.epoch == expected and tuned.last.epoch == 7
    same(tuned.pruned, snapshots[expected - 2])
    assert (tuned.pruned is tuned.last) == (expected == 7)
    assert tuned.pruned.score == pytest.approx(snapshots[expected - 2].score)
    assert tuned.epochs_averaged is None


def test_the_average_is_the_mean_of_the_last_third(every_iterate):
    context, snapshots = every_iterate
    settings = settings_of("average")
    tuned = pipeline.tune_one(pipeline.make_tuner(context, settings), settings)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(s.variables.params for s in snapshots[-2:]))
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-6)  # noqa: E731
    jax.tree.map(close, tuned.pruned.variables.params, mean)
    jax.tree.map(np.testing.assert_array_equal, tuned.pruned.masks, snapshots[-1].masks)
    assert (tuned.pruned.epoch, tuned.epochs_averaged) == (7, 2)
    assert tuned.pruned.score.accuracy == correct(context, tuned.pruned).mean()
    same(tuned.last, snapshots[-1])
    report = pipeline.evaluate_final(context, tuned, settings, ["validation"])
    assert (report["selection"], report["epochs_averaged"]) == ("average", 2)
    assert report["params_sha256"] != report["last"]["params_sha256"]
    assert report["sparsity"] == report["last"]["sparsity"]


@pytest.fixture(scope="module")
def single(digits_splits, small_dense):
    """Two members by each rule, each by itself, an epoch a program."""

    @functools.cache
    def outcomes(rule):
        members = [settings_of(rule, seed=seed) for seed in range(2)]
        return run(*small_dense, digits_splits, members, members="single", epoch="device")[1]

    return outcomes


@pytest.mark.parametrize(
    ("rule", "how", "is_streamed"),
    [
        ("flips", {"members": "vmap"}, False),
        pytest.param("flips", {"members": "map"}, False, marks=pytest.mark.smoke),
        ("flips", {"members": "single", "devices": 8}, False),
        pytest.param(
            "flips",
            {"members": "vmap", "devices": 2, "spread": "members"},
            False,
            marks=pytest.mark.smoke,
        ),
        pytest.param("flips", {"epoch": "loop"}, True, marks=pytest.mark.smoke),
        pytest.param("average", {"members": "vmap"}, False, marks=pytest.mark.smoke),
        pytest.param("average", {"epoch": "loop", "devices": 8}, True, marks=pytest.mark.smoke),
    ],
)
def test_every_mode_chooses_the_same(rule, how, is_streamed, digits_splits, small_dense, single):
    members = [settings_of(rule, seed=seed) for seed in range(2)]
    splits = with_records(digits_splits) if is_streamed else digits_splits
    _, found = run(*small_dense, splits, members, **how)
    for one, other in zip(found, single(rule), strict=True):
        assert one.pruned.epoch == other.pruned.epoch
        assert one.epochs_averaged == other.epochs_averaged
        same(one.pruned, other.pruned, atol=1e-4)


def test_members_choose_for_themselves(digits_splits, small_dense):
    members = [settings_of("flips", seed=seed) for seed in range(6)]
    _, found = run(*small_dense, digits_splits, members, members="vmap")
    assert len({outcome.pruned.epoch for outcome in found}) > 1


@pytest.mark.smoke
def test_iterates_with_other_masks_are_not_averaged(digits_splits, small_dense):
    """Dynamic sparse training moves its masks in every epoch, so one iterate is left."""
    pruning = dataclasses.replace(SETTINGS.pruning, algorithm="set", epochs=8)
    settings = settings_of("average", pruning=pruning, finetune_epochs=3)
    _, [tuned] = run(*small_dense, digits_splits, [settings])
    assert tuned.epochs_averaged == 1
    same(tuned.pruned, tuned.last, atol=0)


def test_a_running_mean_starts_anew_with_new_masks():
    masks = {"w": np.array([1, 1, 0], np.uint8), "b": None}
    others = {"w": np.array([1, 0, 1], np.uint8), "b": None}
    params = [
        {"w": np.array([i, 2.0 * i, 0.0], np.float32), "b": np.float32([i])} for i in range(5)
    ]
    mean = RunningMean()
    for i, own in ((4, masks), (3, others), (0, masks), (1, masks), (2, masks)):
        mean.add(params[i], own)
    assert mean.count == 3
    np.testing.assert_allclose(mean.mean["w"], [1, 2, 0])
    assert mean.mean["w"].dtype == np.float32


@pytest.mark.parametrize(("epochs", "expected"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (45, 15)])
def test_a_third_of_the_epochs(epochs, expected):
    assert num_averaged(epochs) == expected


def network_with_statistics():
    """Keeps a running mean of its inputs, of momentum ½, and has noise in training."""

    def init(key, inputs):
        del key, inputs
        return Variables({"w": jnp.ones((2, 3))}, {"mean": jnp.zeros(2)})

    def apply(variables, inputs, *, train=False, key=None):
        state = variables.state
        if train:
            jax.random.uniform(key)  # needs one, as dropout does
            state = {"mean": (state["mean"] + inputs.mean(0)) / 2}
        return (inputs - state["mean"][None]) @ variables.params["w"], state

    return Model(init, apply)


@pytest.mark.parametrize("devices", [1, 8])
def test_statistics_are_taken_anew(devices):
    model = network_with_statistics()
    inputs = np.random.default_rng(0).normal(3, 1, (40, 2)).astype(np.float32)
    samples = Dataset(inputs, np.arange(40) % 3, np.zeros((40, 1), int))
    splits = data.make_splits(samples, 3, ["all"], test_indices=np.arange(4))
    execution = Execution(members="single", devices=devices)
    context = pipeline.make_context(model, model.init(None, None), splits, execution)
    found = context.with_new_statistics(context.variables, batch_size=4, seed=1)
    order = epoch_indices(jax.random.split(jax.random.key(1))[0], splits.train.size, 4)
    mean = np.zeros(2)
    for rows in np.where(order < 0, -1 - order, order):
        mean = (mean + np.asarray(splits.train.inputs)[rows].mean(0)) / 2
    np.testing.assert_allclose(found.state["mean"], mean, rtol=1e-5)
    np.testing.assert_array_equal(found.params["w"], np.ones((2, 3)))


def test_networks_without_statistics_stay_as_they_are(digits_splits, small_dense):
    context = pipeline.make_context(*small_dense, digits_splits)
    found = context.with_new_statistics(context.variables, batch_size=4, seed=1)
    jax.tree.map(np.testing.assert_array_equal, found, context.variables)


def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(UserError, match=f"unknown selection 'newest'; known: {SELECTIONS[0]}"):
        training.check_settings(settings_of("newest"))


def test_the_former_name_warns(every_iterate):
    _, snapshots = every_iterate
    tuned = pipeline.TuningResult(snapshots[0], snapshots[1])
    with pytest.warns(DeprecationWarning, match="TuningResult.selected is now TuningResult.pruned"):
        assert tuned.selected is snapshots[0]
