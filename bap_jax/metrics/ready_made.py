"""Losses and what counts as right for labels that are no class ids, or not only the first class.

z are the logits of a sample and y its labels, σ the logistic function and H(y, z) = −y log σ(z) −
(1 − y) log σ(−z) the binary cross-entropy:

    name         a logit for each     loss                     right
    binary       sample               H(y, z)                  [z > 0] = y
    multi_label  label                mean_l H(y_l, z_l)       all labels are
    ordinal      k, that y > k        mean_k H([y > k], z_k)   |#{k: z_k > 0} − y| ≤ w
    top_k        class                cross-entropy            y is among the k largest
    sequence     position, class      mean_t cross-entropy     all positions are

The ordinal loss is that of Niu et al. 2016 (Ordinal regression with multiple output CNN, CVPR),
which Cao et al. 2020 (arXiv 1901.07884) make rank-consistent by sharing weights among the logits.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bap_jax.errors import UserError
from bap_jax.metrics.classes import cross_entropy, kl_divergence
from bap_jax.metrics.criterion import Criterion, class_divergence


def _mean_over_rest(values):
    return values.reshape(values.shape[0], -1).mean(1)


def _all_over_rest(values):
    return values.reshape(values.shape[0], -1).all(1)


def _like(labels, logits):
    """Labels in the shape of the logits, so that `(batch,)` and `(batch, 1)` go together."""
    return jnp.asarray(labels).reshape(logits.shape)


def _labels_loss(logits, labels):
    targets = _like(labels, logits).astype(logits.dtype)
    return _mean_over_rest(optax.sigmoid_binary_cross_entropy(logits, targets))


def _labels_correct(logits, labels):
    return _all_over_rest((logits > 0) == _like(labels, logits).astype(bool))


def _labels_divergence(target_logits, logits, labels):
    """Mean KL divergence of the binary distributions."""
    del labels
    p, log_p = jax.nn.sigmoid(target_logits), jax.nn.log_sigmoid
    on = p * (log_p(target_logits) - log_p(logits))
    off = (1 - p) * (log_p(-target_logits) - log_p(-logits))
    return _mean_over_rest(on + off)


def _check_binary(labels, logits_shape):
    if np.prod(logits_shape[1:]) != 1:
        raise UserError(
            f"'binary' takes one logit for each sample, of shape (batch,) or (batch, 1); the "
            f"network returns {logits_shape}. For two classes with two logits leave loss= out; for "
            "several labels of a sample write loss='multi_label'; a config sets the number of "
            "logits by config.model.num_outputs."
        )
    _check_labels(labels, logits_shape, "binary")


def _check_labels(labels, logits_shape, name="multi_label"):
    labels = _one_array(labels, name)
    expected = logits_shape[1:]
    if labels.shape[1:] != expected and not np.prod(expected) == np.prod(labels.shape[1:]) == 1:
        raise UserError(
            f"{name!r} takes labels in the shape of the logits, (sample, "
            f"{', '.join(map(str, expected))}); got labels of shape {labels.shape}."
        )
    _check_values(labels, name, (labels == 0) | (labels == 1), "0 or 1")


BINARY = Criterion(_labels_loss, _labels_correct, _labels_divergence, _check_binary)
MULTI_LABEL = Criterion(_labels_loss, _labels_correct, _labels_divergence, _check_labels)


@functools.cache
def top_k(k: int) -> Criterion:
    """Cross-entropy of class ids; right is a sample whose label has one of the k largest logits.

    Args:
      k: at least 1; of equal logits the first class counts as larger.

    Raises:
      UserError: k is less than 1.

    Example:
      >>> logits = jnp.array([[3.0, 2.0, 1.0]] * 3)
      >>> top_k(2).correct(logits, jnp.array([0, 1, 2])).tolist()
      [True, True, False]
    """
    if not isinstance(k, int) or k < 1:
        raise UserError(f"top_k needs a whole number of at least 1; got {k!r}.")

    def is_among_largest(logits, labels):
        _, largest = jax.lax.top_k(logits, k)
        return (largest == labels[:, None]).any(1)

    def check(labels, logits_shape):
        name = f"top_{k}"
        _check_class_ids(labels, logits_shape, name)
        if k >= logits_shape[-1]:
            raise UserError(
                f"{name!r}: with {logits_shape[-1]} classes every sample would be right; choose a "
                "k below the number of classes."
            )

    return Criterion(cross_entropy, is_among_largest, class_divergence, check)


def _check_class_ids(labels, logits_shape, name):
    labels = _one_array(labels, name)
    if len(logits_shape) != 2 or labels.ndim != 1:
        raise UserError(
            f"{name!r} takes logits (batch, class) and labels (sample,); the network returns "
            f"{logits_shape} and labels have shape {labels.shape}."
        )
    _check_integers(labels, name)
    inside = (labels >= 0) & (labels < logits_shape[1])
    _check_values(labels, name, inside, f"class ids in [0, {logits_shape[1] - 1}]")


def _position_loss(logits, labels):
    each = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return _mean_of_labelled(each, labels)


def _mean_of_labelled(values, labels):
    counts = (labels >= 0).reshape(labels.shape[0], -1)
    values = jnp.where(counts, values.reshape(counts.shape), 0)
    return values.sum(1) / jnp.maximum(counts.sum(1), 1).astype(values.dtype)


def _position_correct(logits, labels):
    return _all_over_rest((jnp.argmax(logits, -1) == labels) | (labels < 0))


def _position_divergence(target_logits, logits, labels):
    return _mean_of_labelled(kl_divergence(target_logits, logits), labels)


def _check_positions(labels, logits_shape):
    name, labels = "sequence", _one_array(labels, "sequence")
    if len(logits_shape) < 3 or labels.shape[1:] != logits_shape[1:-1]:
        raise UserError(
            f"{name!r} takes logits (batch, position, class) and labels (sample, position); the "
            f"network returns {logits_shape} and labels have shape {labels.shape}."
        )
    _check_integers(labels, name)
    expected = f"class ids below {logits_shape[-1]}, or negative where no label counts"
    _check_values(labels, name, labels < logits_shape[-1], expected)
    empty = ~(labels >= 0).reshape(len(labels), -1).any(1)
    if empty.any():
        raise UserError(
            f"{name!r}: no position of sample {int(np.argmax(empty))} has a label; leave such "
            "samples out, as they would count as right."
        )


SEQUENCE = Criterion(_position_loss, _position_correct, _position_divergence, _check_positions)


@functools.cache
def ordinal(within: int = 0) -> Criterion:
    """Levels 0 … K in order, with K logits: logit k says whether the level is above k.

    Args:
      within: how many levels a prediction may be off and still count as right.

    Raises:
      UserError: `within` is negative.

    Example:
      >>> logits = jnp.array([[2.0, 1.0, -1.0]])  # above 0, above 1, not above 2: level 2
      >>> [bool(ordinal(w).correct(logits, jnp.array([3]))[0]) for w in (0, 1)]
      [False, True]
    """
    if not isinstance(within, int) or within < 0:
        raise UserError(f"ordinal needs a whole number of levels, at least 0; got {within!r}.")

    def loss(logits, labels):
        return _labels_loss(logits, labels[:, None] > jnp.arange(logits.shape[1])[None])

    def is_near(logits, labels):
        return jnp.abs((logits > 0).sum(1) - labels) <= within

    return Criterion(loss, is_near, _labels_divergence, _check_levels)


def _check_levels(labels, logits_shape):
    name, labels = "ordinal", _one_array(labels, "ordinal")
    if len(logits_shape) != 2 or labels.ndim != 1:
        raise UserError(
            f"{name!r} takes logits (batch, levels − 1) and labels (sample,); the network returns "
            f"{logits_shape} and labels have shape {labels.shape}."
        )
    _check_integers(labels, name)
    count = logits_shape[1]
    expected = f"levels in [0, {count}] for {count} logits, one logit fewer than levels"
    _check_values(labels, name, (labels >= 0) & (labels <= logits_shape[1]), expected)


ORDINAL = ordinal()


def _one_array(labels, name):
    if isinstance(labels, Mapping | tuple | list):
        raise UserError(f"{name!r} takes labels as one array; got a {type(labels).__name__}.")
    return np.asarray(labels)


def _check_integers(labels, name):
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{name!r} takes integer labels; got {labels.dtype}.")


def _check_values(labels, name, allowed, expected):
    if not allowed.all():
        raise UserError(
            f"{name!r} takes labels that are {expected}; got {labels[~allowed].flat[0]} in sample "
            f"{int(np.argwhere(~allowed)[0, 0])}."
        )
