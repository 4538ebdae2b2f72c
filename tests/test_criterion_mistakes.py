"""Mistakes in a loss and correctness of the user's own are found before anything is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import metrics, pipeline, training
from bap_jax.errors import UserError
from bap_jax.metrics import Criterion
from bap_jax.models import Model
from bap_jax.training import METHODS
from bap_jax.training.criterion_checks import LogitsShape, check_criterion, logits_shape
from bap_jax.training.settings import ConstraintSettings
from bap_jax.types import Variables
from tests.test_own_criteria import (
    BITS,
    COUNT,
    LEVELS,
    VALUES,
    WORDS,
    X,
    hinge,
    near,
    run,
    splits_of,
    squared,
)


def check(shape, labels, criterion, **settings):
    settings = training.Settings(**settings)
    logits = LogitsShape((1, *shape), np.dtype("float32"))
    check_criterion(criterion, logits, splits_of(labels), settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["multi_label", "own"])
def test_each_method_serves_the_criterion_or_says_why_not(name, method):
    shape, labels, criterion = {
        "multi_label": ((4,), BITS, metrics.MULTI_LABEL),
        "own": ((1,), VALUES, Criterion(squared, near)),
    }[name]
    if (name, method) == ("own", "distillation"):
        with pytest.raises(UserError, match=r"Criterion\(loss, correct, divergence=\.\.\.\)"):
            check(shape, labels, criterion, method=method)
    else:
        check(shape, labels, criterion, method=method)


@pytest.mark.parametrize("row", [1, 10, COUNT - 1])
def test_a_wrong_label_is_counted_among_the_samples_that_were_given(row):
    """Whatever the split is that the sample falls into."""
    labels = np.array(BITS)
    labels[row, 2] = 7
    with pytest.raises(UserError, match=rf"got 7 in sample {row}\."):
        check((4,), labels, metrics.MULTI_LABEL)
    splits = splits_of(labels)._replace(sample_ids=None)
    with pytest.raises(UserError, match="got 7 in sample "):
        check_criterion(
            metrics.MULTI_LABEL,
            LogitsShape((1, 4), np.dtype("float32")),
            splits,
            training.Settings(),
        )


def test_the_shape_of_labels_is_that_of_all_that_were_given():
    with pytest.raises(UserError, match=rf"got labels of shape \({COUNT}, 4\)"):
        check((5,), BITS, metrics.MULTI_LABEL)


def test_a_proxy_of_divergences_needs_one():
    constraint = ConstraintSettings(proxy="kl")
    check((4,), BITS, metrics.MULTI_LABEL, constraint=constraint)
    with pytest.raises(UserError, match="compare predictions with those of the dense model"):
        check((1,), VALUES, Criterion(squared, near), constraint=constraint)
    with_one = Criterion(squared, near, lambda p, q, labels: ((p - q) ** 2).sum(1))
    check((1,), VALUES, with_one, constraint=constraint)


def bce(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels)


def exact(logits, labels):
    return ((logits > 0) == labels).all(1)


@pytest.fixture
def nothing_is_trained(monkeypatch):
    for name in ("make_context", "train_dense", "make_tuner"):
        monkeypatch.setattr(pipeline, name, lambda *args, **options: pytest.fail("trained"))


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize(
    ("loss", "correct", "text"),
    [
        (lambda z, y: bce(z, y).mean(), exact, r"loss must return one number.*Leave out the mean"),
        (bce, exact, r"loss must return .*got float32 of shape \(8, 4\).*Reduce the other axes"),
        (lambda z, y: None, exact, "got NoneType"),
        (lambda z, y: 0.0, exact, "got float. Leave out the mean"),
        (lambda z, y: (z > 0).sum(1), exact, "real numbers with a gradient; got int32"),
        (lambda z, y: z.sum(1) + 0j, exact, "real numbers"),
        (lambda z, y: bce(z, y).mean(1)[:3], exact, r"got float32 of shape \(3,\)"),
        (lambda z, y: np.maximum(z, y).mean(1), exact, "loss cannot be called.*jax.numpy"),
        (lambda z, y: bce(z[:, :3], y).mean(1), exact, r"loss cannot be called.*\(8, 4\)"),
        (lambda z: z.mean(1), exact, "loss cannot be called.*TypeError"),
        (lambda z, y: bce(z, y).mean(1), lambda z, y: ((z > 0) == y).mean(1), "0.*or 1.*share"),
        (lambda z, y: bce(z, y).mean(1), lambda z, y: -exact(z, y).astype(int), "returned -1"),
        (lambda z, y: bce(z, y).mean(1), lambda z, y: (z > 0) == y, "correct must return one"),
        (lambda z, y: bce(z, y).mean(1), lambda z, y: exact(z, y) if z[0, 0] > 0 else 0, "correct"),
        (
            lambda z, y: bce(z, y).mean(1) - bce(z, y).mean(),
            exact,
            "loss of a sample depends on the other samples",
        ),
        (
            lambda z, y: bce(z[:, 0], y[:, :1]).mean(1),
            exact,
            "axes of different meaning broadcast",
        ),
        (
            lambda z, y: bce(z, y).mean(1),
            lambda z, y: ((z[:, :1] > 0) == y[:, 0]).all(1),
            "correct of a sample depends",
        ),
    ],
)
def test_mistakes_in_functions_are_found_before_anything_is_trained(loss, correct, text):
    with pytest.raises(UserError, match=text), jax.numpy_rank_promotion("allow"):
        run((4,), BITS, loss=loss, correct=correct)


@pytest.mark.usefixtures("nothing_is_trained")
@pytest.mark.parametrize(
    ("shape", "labels", "options", "text"),
    [
        ((1,), BITS[:, 0], {}, r"loss='binary' \(one logit, above 0 for label 1\).*two logits"),
        ((), BITS[:, 0], {}, "loss='binary'"),
        ((5, 3), WORDS, {}, "loss='multi_label' or 'sequence'; known: binary, "),
        ((4,), BITS, {}, "labels must be integer class ids.*got int64 of shape.*'multi_label'"),
        ((4,), VALUES, {}, "got a dict"),
        ((4,), BITS, {"loss": hinge}, "labels must be integer class ids"),
        ((1,), BITS[:, 0], {"loss": hinge}, "logits of shape"),
        ((2,), BITS[:, 0], {"loss": "binary"}, "one logit for each sample"),
        ((3,), BITS, {"loss": "multi_label"}, r"labels in the shape of the logits, \(sample, 3\)"),
        ((2,), LEVELS, {"loss": "ordinal"}, r"levels in \[0, 2\] for 2 logits.*got 3"),
        ((4,), BITS.astype(str), {"loss": "multi_label"}, "labels must be numbers"),
        ((4,), BITS[:-1], {"loss": "multi_label"}, "labels 89, groups 90"),
        (
            (1,),
            {"value": np.full(COUNT, np.nan)},
            {"loss": squared, "correct": near},
            "NaN or Inf",
        ),
        ((1,), {}, {"loss": squared, "correct": near}, "one entry for each sample"),
        ((5, 3), [[0, 1]] * 89 + [[2]], {"loss": "sequence"}, "lists of different lengths"),
        ((4,), np.zeros((0, 4)), {"loss": "multi_label"}, "labels 0, groups 90"),
        ((4,), BITS, {"loss": "multilabel"}, "unknown loss 'multilabel'"),
    ],
)
def test_logits_and_labels_that_do_not_fit(shape, labels, options, text):
    with pytest.raises(UserError, match=text):
        run(shape, labels, **options)


@pytest.mark.parametrize(
    "forget",
    [
        lambda logits: logits.squeeze(),
        lambda logits: logits.mean(0),
        lambda logits: logits.reshape(-1, 3),
        lambda logits: logits[:, 0].sum(),
    ],
)
def test_a_network_keeps_the_axis_of_samples(forget):
    """One sample shows it: of its logits `(1, 5, 3)` the first axis is lost."""

    def apply(variables, inputs, *, train, key):
        return forget(inputs.reshape(-1, 5, 3)), {}

    model = Model(lambda key, inputs: Variables({}, {}), apply, lambda variables: variables)
    with pytest.raises(UserError, match="one row of logits for each sample; got .*of 1"):
        logits_shape(model, Variables({}, {}), np.zeros((1, 15)))


def test_what_is_right_is_checked_on_the_dense_networks_own_logits():
    """Random logits do not show that a share is returned where the network is sure."""

    def correct(logits, labels):
        return jnp.where(jnp.abs(logits).max(1) > 100, 0.5, 1.0)

    with pytest.raises(UserError, match=r"correct must say .* returned 0\.5"):
        run((4,), BITS, X * 1e4, loss="multi_label", correct=correct)


def test_smoothing_is_of_the_cross_entropy():
    from tests.training.tiny import settings_of, tiny, trainer_of

    trainer = trainer_of(tiny(), settings_of("nft"))
    parts = trainer.model, trainer.scheme, trainer.constraint, trainer.pruner
    with pytest.raises(UserError, match="label_smoothing is for the cross-entropy"):
        training.make_trainer(
            *parts, constrained_from=0, label_smoothing=0.1, criterion=metrics.BINARY
        )
