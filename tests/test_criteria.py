"""Ready-made losses against closed form in numpy, names of criteria, and every mistake in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import metrics
from bap_jax.errors import UserError
from bap_jax.metrics import CRITERIA, Criterion, find_criterion

RNG = np.random.default_rng(0)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def binary_loss(z, y):
    return -(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z)))


def log_softmax(z):
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


@pytest.mark.parametrize("logits_shape", [(6,), (6, 1)])
@pytest.mark.parametrize("labels_shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", [bool, np.int32, np.uint8, np.float32])
def test_binary(logits_shape, labels_shape, dtype):
    z, y = RNG.normal(size=6), np.array([0, 1, 1, 0, 1, 0])
    arguments = z.reshape(logits_shape).astype(np.float32), y.reshape(labels_shape).astype(dtype)
    metrics.BINARY.check_labels(arguments[1], logits_shape)
    found = metrics.sample_losses(metrics.BINARY, *map(jnp.asarray, arguments))
    np.testing.assert_allclose(found, binary_loss(z, y), rtol=1e-5)
    right = metrics.sample_correct(metrics.BINARY, *map(jnp.asarray, arguments))
    np.testing.assert_array_equal(right, (z > 0) == y)


@pytest.mark.parametrize("shape", [(5, 3), (5, 2, 3)])
def test_multi_label(shape):
    z, y = RNG.normal(size=shape), RNG.integers(0, 2, shape)
    y[0] = z[0] > 0
    found = metrics.sample_losses(metrics.MULTI_LABEL, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(found, binary_loss(z, y).reshape(5, -1).mean(1), rtol=1e-5)
    right = metrics.sample_correct(metrics.MULTI_LABEL, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_array_equal(right, ((z > 0) == y).reshape(5, -1).all(1))
    assert right[0] == 1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(k):
    z, y = RNG.normal(size=(40, 8)).astype(np.float32), RNG.integers(0, 8, 40)
    found = metrics.sample_correct(metrics.top_k(k), jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_array_equal(found, (np.argsort(-z)[:, :k] == y[:, None]).any(1))
    if k == 1:
        np.testing.assert_array_equal(found, metrics.correctness(z, y))


def test_sequences_count_labelled_positions_only():
    z, y = RNG.normal(size=(4, 3, 5)), RNG.integers(0, 5, (4, 3))
    y[0] = z[0].argmax(-1)
    y[1, 1:] = -100
    y[2, 2] = -1
    each = -np.take_along_axis(log_softmax(z), np.maximum(y, 0)[..., None], -1)[..., 0]
    expected = np.where(y >= 0, each, 0).sum(1) / (y >= 0).sum(1)
    found = metrics.sample_losses(metrics.SEQUENCE, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    right = metrics.sample_correct(metrics.SEQUENCE, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_array_equal(right, ((z.argmax(-1) == y) | (y < 0)).all(1))
    gradient = jax.grad(lambda z: metrics.SEQUENCE.loss(z, jnp.asarray(y)).sum())(jnp.asarray(z))
    assert not gradient[1, 1:].any() and gradient[1, 0].any()


@pytest.mark.parametrize("within", [0, 1])
def test_ordinal(within):
    z, y = RNG.normal(size=(30, 3)), RNG.integers(0, 4, 30)
    above = y[:, None] > np.arange(3)
    criterion = metrics.ordinal(within)
    found = metrics.sample_losses(criterion, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_allclose(found, binary_loss(z, above).mean(1), rtol=1e-5)
    right = metrics.sample_correct(criterion, jnp.asarray(z), jnp.asarray(y))
    np.testing.assert_array_equal(right, np.abs((z > 0).sum(1) - y) <= within)


LOGITS = {
    "classification": (4, 3),
    "binary": (4, 1),
    "multi_label": (4, 3),
    "sequence": (4, 2, 3),
    "ordinal": (4, 3),
    "ordinal_within_1": (4, 3),
    "top_5": (4, 7),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_divergence_is_0_between_equals_and_positive_between_others(name):
    shape = LOGITS[name]
    one, other = (jnp.asarray(RNG.normal(size=shape)) for _ in range(2))
    labels = jnp.zeros(shape[:-1] if name == "sequence" else shape[:1], int)
    divergence = CRITERIA[name].divergence
    np.testing.assert_allclose(divergence(one, one, labels), np.zeros(4), atol=1e-6)
    assert (divergence(one, other, labels) > 1e-3).all()
    gradient = jax.grad(lambda z: divergence(one, z, labels).sum())(other)
    assert np.isfinite(gradient).all() and gradient.any()


def test_the_binary_divergence_is_that_of_two_classes():
    p, q = RNG.normal(size=(2, 5))
    two = metrics.kl_divergence(*(np.stack([np.zeros(5), z], 1) for z in (p, q)))
    found = metrics.BINARY.divergence(jnp.asarray(p), jnp.asarray(q), None)
    np.testing.assert_allclose(found, two, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "labels", "shape", "text"),
    [
        ("binary", [0, 2], (2, 1), "labels that are 0 or 1; got 2 in sample 1"),
        ("binary", [-1, 1], (2,), "labels that are 0 or 1; got -1 in sample 0"),
        ("binary", [0, 1], (2, 2), "one logit for each sample.*For two classes with two logits"),
        ("binary", [[0, 1], [1, 1]], (2, 1), r"in the shape of the logits, \(sample, 1\); got"),
        ("binary", {"a": [0, 1]}, (2, 1), "takes labels as one array; got a dict"),
        ("multi_label", [[0.5, 1.0]], (1, 2), "labels that are 0 or 1; got 0.5 in sample 0"),
        ("multi_label", [0, 1], (2, 3), r"in the shape of the logits, \(sample, 3\)"),
        ("multi_label", [[0, 1, 1]], (1, 2), r"got labels of shape \(1, 3\)"),
        ("top_2", [0, 3], (2, 3), r"class ids in \[0, 2\]; got 3 in sample 1"),
        ("top_2", [0, -1], (2, 3), "got -1 in sample 1"),
        ("top_2", [0.0, 1.0], (2, 3), "integer labels; got float64"),
        ("top_2", [[0, 1]], (1, 3), r"logits \(batch, class\) and labels \(sample,\)"),
        ("top_3", [0, 1], (2, 3), "with 3 classes every sample would be right"),
        ("sequence", [[0, 3]], (1, 2, 3), "class ids below 3.*got 3 in sample 0"),
        ("sequence", [[0, 1, 1]], (1, 2, 3), r"labels \(sample, position\)"),
        ("sequence", [0, 1], (2, 3), r"logits \(batch, position, class\)"),
        ("sequence", [[0, 1], [-1, -1]], (2, 2, 3), "no position of sample 1 has a label"),
        ("ordinal", [0, 4], (2, 3), r"levels in \[0, 3\] for 3 logits.*got 4 in sample 1"),
        ("ordinal", [[0, 1]], (1, 3), r"labels have shape \(1, 2\)"),
        ("ordinal", [0.5, 1], (2, 3), "integer labels; got float64"),
    ],
)
def test_labels_that_would_be_misread(name, labels, shape, text):
    labels = labels if isinstance(labels, dict) else np.array(labels)
    with pytest.raises(UserError, match=text):
        find_criterion(name).check_labels(labels, shape)


def own_loss(logits, labels):
    return (logits - labels) ** 2


def own_correct(logits, labels):
    return jnp.abs(logits - labels) < 1


def test_what_loss_and_correct_make_together():
    plain = metrics.CLASSIFICATION
    assert find_criterion() is find_criterion("classification") is find_criterion("", "") is plain
    assert find_criterion("classification", "classification") is plain
    focal = find_criterion(own_loss)
    assert focal.has_classes and focal.loss is own_loss and focal.correct is plain.correct
    top = find_criterion(None, "top_3")
    assert not top.has_classes and top.loss is plain.loss and top.divergence is plain.divergence
    assert top.check_labels is metrics.top_k(3).check_labels
    mine = find_criterion(own_loss, own_correct)
    assert mine == Criterion(own_loss, own_correct)
    assert find_criterion(mine) is mine
    both = find_criterion("multi_label", own_correct)
    assert both.loss is metrics.MULTI_LABEL.loss and both.correct is own_correct
    assert both.check_labels is metrics.MULTI_LABEL.check_labels and both.divergence
    path = f"{__name__}:own_loss"
    assert find_criterion(path, f"{__name__}:own_correct") == mine
    assert find_criterion("top_5") is metrics.top_k(5)


@pytest.mark.parametrize(
    ("loss", "correct", "text"),
    [
        ("hinge", None, "unknown loss 'hinge'; known: classification, binary, .*top_K.*register_"),
        (None, "f1", "unknown correct 'f1'"),
        ("no_such_module:loss", None, "loss 'no_such_module:loss': No module named"),
        (None, f"{__name__}:gone", "correct .*has no attribute 'gone'"),
        (3, None, r"loss is a name, a function \(logits, labels\) -> \(batch,\)"),
        (None, np.ones(3), "correct is a name, a function"),
        ("top_0", None, "unknown loss 'top_0'"),
    ],
)
def test_unknown_criteria(loss, correct, text):
    with pytest.raises(UserError, match=text):
        find_criterion(loss, correct)


def test_registering():
    criterion = Criterion(own_loss, own_correct)
    metrics.register_criterion("mine", criterion)
    try:
        assert find_criterion("mine") is criterion
        metrics.register_criterion("mine", criterion)
        with pytest.raises(UserError, match="criterion 'mine' exists already"):
            metrics.register_criterion("mine", metrics.BINARY)
        metrics.register_criterion("mine", metrics.BINARY, replace=True)
        assert find_criterion("mine") is metrics.BINARY
    finally:
        CRITERIA.pop("mine")
    with pytest.raises(UserError, match=r"takes bap_jax.metrics.Criterion\(loss, correct\)"):
        metrics.register_criterion("mine", own_loss)
    with pytest.raises(UserError, match="consists of letters"):
        metrics.register_criterion("my loss", criterion)


@pytest.mark.parametrize("wrong", [0, -1, 2.5])
def test_numbers_of_classes_and_levels(wrong):
    with pytest.raises(UserError, match="top_k needs a whole number of at least 1"):
        metrics.top_k(wrong)
    if wrong:
        with pytest.raises(UserError, match="ordinal needs a whole number of levels"):
            metrics.ordinal(wrong)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize(("dtype", "how"), [("float32", "strict"), ("bfloat16", "standard")])
def test_strict_promotion_and_half_precision(name, dtype, how):
    shape = LOGITS[name]
    labels = jnp.zeros(shape[:-1] if name == "sequence" else shape[:1], jnp.int32)
    labels = jnp.zeros(shape, jnp.int32) if name == "multi_label" else labels
    logits, other = (jnp.asarray(RNG.normal(size=shape), dtype) for _ in range(2))
    criterion = CRITERIA[name]
    with jax.numpy_dtype_promotion(how):
        for function in (metrics.sample_losses, metrics.sample_correct):
            assert function(criterion, logits, labels).dtype == jnp.float32
        assert criterion.divergence(logits, other, labels).shape == (4,)


def test_a_criterion_passes_through_jit_as_a_constant():
    """Observations hold one, and methods of users may compile what takes them."""
    found = jax.jit(lambda criterion, z, y: metrics.sample_losses(criterion, z, y))(
        metrics.BINARY, jnp.ones((2, 1)), jnp.ones(2)
    )
    np.testing.assert_allclose(found, binary_loss(np.ones(2), 1), rtol=1e-5)
