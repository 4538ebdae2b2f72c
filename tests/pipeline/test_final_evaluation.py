"""The final evaluation: what both networks predict for every sample, and accuracies from it."""

import jax
import numpy as np
import pytest

from bap_jax import Model, Variables, data, groups, pipeline, training
from bap_jax.data.prepared import samples_of, split_samples
from bap_jax.data.records import Records
from bap_jax.pipeline import Snapshot, TuningResult
from bap_jax.reporting import Score
from bap_jax.training import Execution, Settings
from bap_jax.types import Dataset


def other_network(dense, scale=0.3):
    """The dense network with noise, which predicts other classes for some samples."""
    leaves, structure = jax.tree.flatten(dense.params)
    rng = np.random.default_rng(0)
    noisy = [leaf + scale * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return dense._replace(params=jax.tree.unflatten(structure, noisy))


def snapshot(variables, epoch=1):
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.uint8), variables.params)
    return Snapshot(epoch, variables, masks, Score(0.0, 0.0))


def streamed(split):
    """The split with inputs that are read when needed."""
    inputs = np.asarray(split.inputs)
    rows = np.arange(len(inputs))
    records = Records(lambda row: inputs[row], rows, inputs.shape[1:], inputs.dtype)
    return split._replace(inputs=records)


def with_records(splits):
    return splits._replace(**{name: streamed(getattr(splits, name)) for name in data.SPLITS})


@pytest.mark.parametrize(
    ("how", "is_streamed"),
    [
        (Execution(), False),
        (Execution(devices=8), False),
        (Execution(epoch="loop"), True),
        (Execution(epoch="loop", devices=8), True),
    ],
    ids=["arrays", "eight devices", "streamed", "streamed to eight devices"],
)
def test_predictions_are_those_of_the_networks(how, is_streamed, digits_splits, small_dense):
    model, dense = small_dense
    sparse = other_network(dense)
    splits = with_records(digits_splits) if is_streamed else digits_splits
    context = pipeline.make_context(model, dense, splits, how)
    tuned = TuningResult(snapshot(sparse), snapshot(dense, 3))
    found = pipeline.evaluate_with_predictions(context, tuned, Settings()).predictions
    assert list(found) == list(data.SPLITS)
    for name in data.SPLITS:
        split, got = getattr(digits_splits, name), found[name]
        for variables, predicted in ((dense, got.dense), (sparse, got.sparse)):
            logits = model.apply(variables, split.inputs, train=False, key=None)[0]
            np.testing.assert_array_equal(predicted, np.argmax(logits, axis=1))
            assert predicted.dtype == np.int32
        np.testing.assert_array_equal(got.dense_correct, got.dense == split.labels)
        np.testing.assert_array_equal(got.sparse_correct, got.sparse == split.labels)
        np.testing.assert_array_equal(got.label, split.labels)
        np.testing.assert_array_equal(got.group, split.group_ids)
        assert (got.dense != got.sparse).any()


def test_accuracies_are_shares_of_right_predictions(digits_splits, small_dense):
    model, dense = small_dense
    context = pipeline.make_context(model, dense, digits_splits)
    tuned = TuningResult(snapshot(other_network(dense)), snapshot(dense, 3))
    report, predictions = pipeline.evaluate_with_predictions(context, tuned, Settings())
    assert report["epoch"] == 1 and report["last"]["epoch"] == 3
    for name, got in predictions.items():
        split = report["splits"][name]
        assert split["dense_accuracy"] == got.dense_correct.sum() / len(got.id)
        assert split["sparse_accuracy"] == got.sparse_correct.sum() / len(got.id)
        for group in split["groups"]:
            inside = got.group[:, 0] == digits_splits.group_names.index(group["name"])
            assert group["n"] == inside.sum()
            assert group["sparse_accuracy"] == got.sparse_correct[inside].sum() / inside.sum()
        assert report["last"]["splits"][name]["sparse_accuracy"] == split["dense_accuracy"]


def test_each_network_is_evaluated_once(digits_splits, small_dense, monkeypatch):
    model, dense = small_dense
    context = pipeline.make_context(model, dense, digits_splits)
    evaluated, evaluate = [], context.evaluate

    def counting(variables, split):
        evaluated.append(split)
        return evaluate(variables, split)

    monkeypatch.setattr(context, "evaluate", counting)
    last = snapshot(other_network(dense))
    for _ in range(2):
        report, _ = pipeline.evaluate_with_predictions(
            context, TuningResult(last, last), Settings()
        )
    # Of the dense network the context knows the training split already, and then all of them.
    assert sorted(evaluated) == sorted([*data.SPLITS * 2, "validation", "test"])
    assert report["splits"] == report["last"]["splits"]
    assert report["splits"] is not report["last"]["splits"]


def test_ids_are_rows_of_the_data(digits_splits):
    whole = data.load("digits")
    seen = np.concatenate([digits_splits.ids_of(name) for name in data.SPLITS])
    np.testing.assert_array_equal(np.sort(seen), np.arange(1797))
    for name in data.SPLITS:
        split = getattr(digits_splits, name)
        np.testing.assert_array_equal(split.inputs, whole.inputs[digits_splits.ids_of(name)])


def test_attributes_of_groups():
    named = {"race": groups.encode(["b", "a"] * 9), "sex": groups.encode(["y", "x", "x"] * 6)}
    source = data.Source(np.arange(18.0), named, "sex")

    def attributes(group_by):
        samples = samples_of(source, group_by)
        split = {"test_indices": np.arange(6), "validation_indices": np.arange(6, 12)}
        return split_samples(samples, 2, **split).splits

    assert attributes("race").attribute_of_group() == ("race", "race")
    assert attributes("race + sex").attribute_of_group() == ("race", "race", "sex", "sex")
    assert attributes("race*sex").attribute_of_group() == ("race*sex",) * 4
    unnamed = attributes("race+sex")._replace(attributes=())
    assert unnamed.attribute_of_group() == (*["attribute 0"] * 2, *["attribute 1"] * 2)
    assert attributes("race")._replace(attributes=()).attribute_of_group() == ("", "")


def test_an_argmax_over_many_classes_keeps_its_class():
    """Class ids of 100,000 classes do not fit into 16 bits."""
    logits = np.zeros((3, 100_000), np.float32)
    logits[np.arange(3), [0, 70_000, 99_999]] = 1

    def apply(variables, inputs, *, train=False, key=None):
        return inputs, variables.state

    variables = Variables({"unused": np.zeros(1, np.float32)}, ())
    model = Model(lambda key, inputs: variables, apply)
    labels = np.array([0, 70_000, 1], np.int32)
    split = Dataset(logits, labels, np.zeros((3, 1), np.int32))
    means = training.make_evaluator(model, 1)(variables, split)
    assert means.predicted.tolist() == [0, 70_000, 99_999]
    assert means.accuracy == 2 / 3
