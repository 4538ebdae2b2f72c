"""Sums over a split, added up step by step, and the means that they become on the host."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from bap_jax import metrics
from bap_jax.constraints import DenseReference
from bap_jax.types import Array, Dataset


class SplitSums(NamedTuple):
    """Sums over a split.

    Attributes:
      group_correct, group_loss, group_count: `(group,)`.
      correct, loss, count: `()` over samples, each counted once.
    """

    group_correct: Array
    group_loss: Array
    group_count: Array
    correct: Array
    loss: Array
    count: Array


class SplitMeans(NamedTuple):
    """Means over a split, in float64 on the host.

    Attributes:
      group_accuracy, group_loss: `(group,)`; NaN for a group without samples.
      accuracy, loss: over samples.
      group_count: `(group,)` samples.
      count: samples of the split.
      predicted: `(sample,)` int32 class of the largest logit; None where only sums were kept, and
        for a criterion without classes.
      correct: `(sample,)` bool, what such a criterion calls right; None where only sums were kept,
        and for classes.
    """

    group_accuracy: np.ndarray
    group_loss: np.ndarray
    accuracy: float
    loss: float
    group_count: np.ndarray
    count: int
    predicted: np.ndarray | None = None
    correct: np.ndarray | None = None

    def correct_on(self, split: Dataset) -> np.ndarray:
        """`(sample,)` bool, which samples of the split are right; only sums must not suffice."""
        if self.correct is not None:
            return self.correct
        assert self.predicted is not None
        return self.predicted == np.asarray(split.labels)


class BatchEvaluation(NamedTuple):
    """What a network does on a batch, or with a leading axis `step` on a split.

    Attributes:
      sums: over the batch.
      predicted: `(batch,)` int32 class of the largest logit; None for a criterion without classes.
      correct: `(batch,)` float32 of such a criterion; None for classes.
    """

    sums: SplitSums
    predicted: Array | None
    correct: Array | None = None


def evaluation_means(evaluation: BatchEvaluation, num_samples: int) -> SplitMeans:
    """Means and predictions from an evaluation with a leading axis `step`.

    Args:
      evaluation: on the device or the host.
      num_samples: of the split; the last batch may have been filled up with more.

    Raises:
      UserError: a criterion of a user calls a sample neither right nor wrong.
    """
    if evaluation.predicted is None:
        correct = np.asarray(evaluation.correct).ravel()[:num_samples]
        metrics.check_zero_or_one(correct)
        return split_means(evaluation.sums)._replace(correct=correct.astype(bool))
    predicted = np.asarray(evaluation.predicted).ravel()[:num_samples]
    return split_means(evaluation.sums)._replace(predicted=predicted)


def split_means(sums: SplitSums) -> SplitMeans:
    """Means from sums with a leading axis `step`; they are added up in float64 on the host."""
    totals = [np.asarray(sum_of_steps, np.float64).sum(0) for sum_of_steps in sums]
    group_correct, group_loss, group_count, correct, loss, count = totals
    with np.errstate(invalid="ignore", divide="ignore"):
        group_accuracy, group_loss = group_correct / group_count, group_loss / group_count
    return SplitMeans(
        group_accuracy,
        group_loss,
        float(correct / count),
        float(loss / count),
        group_count.astype(np.int64),
        int(count),
    )


def dense_reference(means: SplitMeans, class_overlap: Array | float = 1.0) -> DenseReference:
    """What constraints need to know about the dense model.

    Args:
      means: of the dense model on the training split.
      class_overlap: `(group,)`, see `training.class_overlap`; 1 where there are no classes.
    """
    arrays = (
        means.group_accuracy,
        means.accuracy,
        means.group_loss,
        means.loss,
        means.group_count / means.count,
        means.group_count,
        np.broadcast_to(class_overlap, np.shape(means.group_count)),
    )
    return DenseReference(*(jnp.asarray(array, jnp.float32) for array in arrays))
