"""What one forward pass says about its batch: all that constraints and objectives read."""

from typing import NamedTuple

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree


class Observations(NamedTuple):
    """What one forward pass says about its batch.

    Attributes:
      loss: `(batch,)`, differentiable.
      correct: `(batch,)` 0 or 1.
      group_ids: `(batch, attribute)`; an id outside the groups marks a sample of no group.
      weight: `(batch,)`, 0 for samples to ignore (padding, or all while constraints are off).
      labels: `(batch, ...)` as in the data; `(batch,)` class ids for a classifier.
      logits: `(batch, ...)`, differentiable; `(batch, class)` of a classifier.
      dense_logits: `(batch, ...)` of the dense model on the same samples, where needed.
      criterion: what `loss` and `correct` are made with.
    """

    loss: Array
    correct: Array
    group_ids: Array
    weight: Array
    labels: PyTree | None = None
    logits: Array | None = None
    dense_logits: Array | None = None
    criterion: metrics.Criterion = metrics.CLASSIFICATION


def presence_of(observations: Observations, frequency: Array) -> Array:
    """`(group,)` 1 − e^{−w_g B}, in which share of the batches a group has a sample.

    That is of samples drawn one by one. Of a permutation a group of three in 200 samples is in 95 %
    of the batches of 128 instead of 85 %; from ten samples on the difference is below 1 %.

    Args:
      observations: of a batch drawn at random; B of its samples have a weight.
      frequency: `(group,)` w_g, shares of the groups among all such samples.
    """
    expected = frequency * jnp.maximum(observations.weight.sum(), 1)
    # In float32 nothing is left of a small difference.
    return jnp.where(expected < 1e-3, expected, 1 - jnp.exp(-expected))


def dense_correct_of(observations: Observations) -> Array:
    """`(batch,)` 1.0 where the dense model is right.

    Raises:
      UserError: the observations do not hold its logits, or no labels.
    """
    dense, labels = dense_logits_of(observations), labels_of(observations)
    return metrics.sample_correct(observations.criterion, dense, labels)


def divergence_of(observations: Observations) -> Array:
    """`(batch,)` how far the model's predictions are from the dense model's, differentiable.

    Raises:
      UserError: the observations lack logits, or the criterion has no divergence.
    """
    divergence = observations.criterion.divergence
    if divergence is None:
        raise UserError(
            "the method 'distillation' and constraint.proxy='kl' compare predictions with those of "
            "the dense model, and a loss of your own does not say how. Pass "
            "bap_jax.metrics.Criterion(loss, correct, divergence=...), a function (dense logits, "
            "logits, labels) -> (batch,), as loss=, or choose another method and proxy."
        )
    logits, labels = logits_of(observations), observations.labels
    return divergence(dense_logits_of(observations), logits, labels)


def dense_logits_of(observations: Observations) -> Array:
    """`(batch, ...)` logits of the dense model.

    Raises:
      UserError: the observations do not hold them.
    """
    if observations.dense_logits is None:
        raise UserError(
            "this constraint or objective needs the dense model's logits, and the data have none; "
            "write data._replace(dense_logits=training.predict(model, variables, data))."
        )
    return observations.dense_logits


def logits_of(observations: Observations) -> Array:
    """`(batch, ...)` logits of the model.

    Raises:
      UserError: the observations do not hold them.
    """
    return _required(observations, "logits")


def labels_of(observations: Observations) -> PyTree:
    """`(batch, ...)` labels; class ids for a classifier.

    Raises:
      UserError: the observations do not hold them.
    """
    return _required(observations, "labels")


def _required(observations, name):
    values = getattr(observations, name)
    if values is None:
        raise UserError(
            f"this constraint or objective needs {name}, and the observations have none; write "
            f"observations._replace({name}=...)."
        )
    return values
