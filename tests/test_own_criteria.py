"""Whole runs with a loss and correctness of the user's own: labels and logits of any shape."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import bap_jax
from bap_jax import data, metrics, models, training
from bap_jax.metrics import Criterion
from bap_jax.reporting import verdicts
from bap_jax.reporting.worst_samples import worst_samples
from bap_jax.training import Execution
from bap_jax.training.settings import ConstraintSettings, PruningSettings, Settings
from bap_jax.types import Dataset

COUNT = 90
TEST = np.arange(0, COUNT, 3)
QUICK = Settings(
    pruning=PruningSettings(sparsity=0.5, epochs=1, prunable="kernels"),
    constraint=ConstraintSettings(buffer_size=4, min_group_size=1),
    finetune_epochs=1,
    batch_size=32,
)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, 6)).astype(np.float32)
SIDE = RNG.choice(["north", "south"], COUNT)


class Net(nnx.Module):
    """Logits of any shape."""

    def __init__(self, shape):
        self.shape = shape
        self.first = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
        self.out = nnx.Linear(8, int(np.prod(shape)), rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.out(nnx.relu(self.first(x))).reshape(len(x), *self.shape)


def run(shape, labels, inputs=X, **options):
    options = {"test_indices": TEST, "settings": QUICK} | options
    return bap_jax.prune_and_tune(Net(shape), inputs, labels, SIDE, **options)


BITS = (X[:, :4] > 0).astype(np.int64)
LEVELS = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0) + (X[:, 2] > 0)
WORDS = RNG.integers(0, 3, (COUNT, 5))
WORDS[::2, 3:] = -100


def squared(logits, labels):
    return (logits[:, 0] - labels["value"]) ** 2 * labels["weight"]


def near(logits, labels):
    return jnp.abs(logits[:, 0] - labels["value"]) < 0.5


def most_labels(logits, labels):
    return ((logits > 0) == (labels > 0)).mean(1) >= 0.75


def hinge(logits, labels):
    own = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = jnp.where(jax.nn.one_hot(labels, logits.shape[1]) > 0, -jnp.inf, logits)
    return jax.nn.relu(1 + others.max(1) - own)


VALUES = {"value": X[:, 0].astype(np.float64), "weight": np.ones(COUNT, np.float32)}
CASES = {
    "multi-label": ((4,), BITS, {"loss": "multi_label"}),
    "multi-label, most": ((4,), BITS, {"loss": "multi_label", "correct": most_labels}),
    "multi-label, functions": (
        (4,),
        BITS.astype(np.float32),
        {
            "loss": lambda z, y: optax.sigmoid_binary_cross_entropy(z, y).sum(1),
            "correct": lambda z, y: ((z > 0) == y).all(1),
        },
    ),
    "top 2": ((4,), LEVELS, {"correct": "top_2"}),
    "sequence": ((5, 3), WORDS, {"loss": "sequence"}),
    "ordinal": ((3,), LEVELS, {"loss": "ordinal"}),
    "ordinal, one off": ((3,), LEVELS, {"loss": metrics.ordinal(within=1)}),
    "one logit": ((1,), BITS[:, 0], {"loss": "binary"}),
    "one logit, no axis": ((), BITS[:, 0] > 0, {"loss": "binary"}),
    "a dict of real labels": ((1,), VALUES, {"loss": squared, "correct": near}),
    "hinge": ((4,), LEVELS, {"loss": hinge}),
    "maps": (
        (2, 3, 2),
        RNG.integers(0, 2, (COUNT, 2, 3, 2)),
        {
            "loss": lambda z, y: optax.sigmoid_binary_cross_entropy(z, y).mean((1, 2, 3)),
            "correct": lambda z, y: ((z > 0) == y).sum((1, 2, 3)) > 6,
        },
    ),
}

WHOLE_RUNS = ("sequence", "a dict of real labels", "hinge")


@functools.cache
def result_of(name):
    shape, labels, options = CASES[name]
    return run(shape, labels, **options)


@pytest.mark.parametrize("name", CASES)
def test_evaluation(name):
    shape, labels, options = CASES[name]
    criterion, network = metrics.find_criterion(**options), Net(shape)
    model, variables = models.adapt(network, None)
    samples = Dataset(X, labels, np.zeros((COUNT, 1), np.int32))
    found = training.make_evaluator(model, 1, criterion=criterion)(variables, samples)
    logits, labels = network(jnp.asarray(X)), jax.tree.map(jnp.asarray, labels)
    losses, right = criterion.loss(logits, labels), criterion.correct(logits, labels)
    np.testing.assert_array_equal(found.correct_on(samples), right)
    assert found.loss == pytest.approx(float(losses.mean()), rel=1e-4)
    assert found.accuracy == found.group_accuracy[0] == pytest.approx(float(right.mean()))


@pytest.mark.smoke
@pytest.mark.parametrize("name", WHOLE_RUNS)
def test_accuracies_are_shares_of_what_is_right(name):
    shape, labels, options = CASES[name]
    result, criterion = result_of(name), metrics.find_criterion(**options)
    found, report = result.predictions["test"], result.report["splits"]["test"]
    test_labels = jax.tree.map(lambda leaf: jnp.asarray(leaf[TEST]), labels)
    networks = {"dense": Net(shape), "sparse": result.pruned}
    for which, network in networks.items():
        right = np.asarray(criterion.correct(network(jnp.asarray(X[TEST])), test_labels))
        np.testing.assert_array_equal(getattr(found, f"{which}_correct"), right)
        assert report[f"{which}_accuracy"] == pytest.approx(right.mean())
    for group in report["groups"]:
        member = SIDE[TEST] == group["name"]
        assert group["dense_accuracy"] == pytest.approx(found.dense_correct[member].mean())
    assert float((result.pruned.first.kernel[...] == 0).mean()) == 0.5
    assert str(result).startswith(("Undecided", "Certified", "Violated", "Not assessed"))
    has_classes = name == "hinge"
    assert (found.dense is not None) == (found.sparse is not None) == has_classes
    assert (found.label is None) == isinstance(labels, dict)


def test_labels_are_counted_where_they_look_like_class_ids():
    rows = data.summarize(splits_of(LEVELS), list("0123"))["labels"]
    assert [row["name"] for row in rows] == ["0", "1", "2", "3"]
    assert sum(row["test"] for row in rows) == len(TEST)
    others = data.summarize(splits_of(BITS), [])
    assert others["labels"] == others["label_by_group"] == []
    text = data.format_summary(others)
    assert "Labels     no class ids: not counted" in text and "Missing" not in text


def test_own_functions_that_compute_the_default_change_no_bit():
    expected = run((4,), LEVELS)

    def loss(logits, labels):
        return metrics.cross_entropy(logits, labels)

    def correct(logits, labels):
        return jnp.argmax(logits, axis=-1) == labels

    found = run((4,), LEVELS, loss=loss, correct=correct)
    assert found.report["params_sha256"] == expected.report["params_sha256"]
    assert found.report["splits"] == expected.report["splits"]


def test_a_rule_an_estimator_and_a_pruner_that_need_what_is_right():
    options = {
        "selection": "flips",
        "constraint": ConstraintSettings(buffer_size=4, estimator="paired", min_group_size=1),
        "pruning": PruningSettings(0.5, epochs=1, prunable="kernels", algorithm="rigl"),
    }
    assert run((4,), BITS, loss="multi_label", **options).report["selection"] == "flips"


@pytest.mark.smoke
def test_streamed_samples_on_several_devices():
    shape, labels, options = CASES["a dict of real labels"]
    records = data.Records(lambda row: X[row], np.arange(COUNT), X.shape[1:], X.dtype)
    execution = Execution(epoch="loop", devices=2)
    found = run(shape, labels, records, execution=execution, **options)
    expected = result_of("a dict of real labels")
    for one, other in zip(found.predictions["test"], expected.predictions["test"], strict=True):
        np.testing.assert_array_equal(one, other)


def splits_of(labels):
    samples = Dataset(X, labels, (SIDE == "south").astype(int)[:, None])
    return data.make_splits(samples, None, ["north", "south"], test_indices=TEST)


@pytest.mark.smoke
def test_distillation_with_a_divergence_of_your_own_and_masks_from_the_loss():
    criterion = Criterion(squared, near, lambda p, q, labels: ((p - q) ** 2).sum(1))
    shape, labels, _ = CASES["a dict of real labels"]
    pruning = PruningSettings(0.5, epochs=1, prunable="kernels", algorithm="snip")
    result = run(shape, labels, loss=criterion, method="distillation", pruning=pruning)
    assert result.report["sparsity"]["prunable"] == pytest.approx(0.5, abs=0.02)


def test_harmed_samples_without_classes():
    found = result_of("multi-label").predictions["test"]
    harmed = found._replace(dense_correct=np.ones(30, bool), sparse_correct=np.arange(30) > 9)
    splits = splits_of(BITS)._replace(attributes=())
    names = splits.group_names, splits.attribute_of_group()
    counts = verdicts.counts_of(harmed, *names)
    result = verdicts.from_counts(counts, tolerance=0.01, min_group_size=2)
    section = worst_samples(result, harmed, splits)
    assert section.parts[1].columns == ("Sample", "Group")
