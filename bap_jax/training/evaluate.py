"""A network on a whole part: sums for each group, divided at the end."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import metrics
from bap_jax.constraints import DenseReference
from bap_jax.data.batches import gather, ordered_indices
from bap_jax.models import Model
from bap_jax.types import Array, Dataset, Variables


class PartSums(NamedTuple):
    """Sums over a part.

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


class PartMeans(NamedTuple):
    """Means over a part, in float64 on the host.

    Attributes:
      group_accuracy, group_loss: `(group,)`; NaN for a group without samples.
      accuracy, loss: over samples.
      group_count: `(group,)` samples.
      count: samples of the part.
    """

    group_accuracy: np.ndarray
    group_loss: np.ndarray
    accuracy: float
    loss: float
    group_count: np.ndarray
    count: int


Evaluator = Callable[[Variables, Dataset], PartMeans]


def make_evaluator(model: Model, num_groups: int, batch_size: int = 512) -> Evaluator:
    """A function `(Variables, Dataset) -> PartMeans`, compiled once for each shape of a part.

    The network is evaluated as it is deployed: no dropout, no augmentation, running statistics.
    """

    @jax.jit
    def batch_sums(variables, data, indices):
        batch, weight = gather(data, indices)
        logits, _ = model.apply(variables, batch.inputs, train=False, key=None)
        loss = metrics.cross_entropy(logits, batch.labels)
        correct = metrics.correctness(logits, batch.labels)
        by_group = [
            metrics.group_sums(values, batch.group_ids, weight, num_groups)
            for values in (correct, loss)
        ]
        overall = [(values * weight).sum() for values in (correct, loss)]
        return PartSums(
            by_group[0].total, by_group[1].total, by_group[0].count, *overall, weight.sum()
        )

    def evaluate(variables, data):
        batches = ordered_indices(data.size, min(batch_size, data.size))
        sums = [batch_sums(variables, data, indices) for indices in batches]
        return _divide(
            PartSums(
                *(
                    np.sum([np.asarray(x, np.float64) for x in field], axis=0)
                    for field in zip(*sums, strict=True)
                )
            )
        )

    return evaluate


def _divide(sums: PartSums) -> PartMeans:
    with np.errstate(invalid="ignore", divide="ignore"):
        group_accuracy = sums.group_correct / sums.group_count
        group_loss = sums.group_loss / sums.group_count
    return PartMeans(
        group_accuracy,
        group_loss,
        float(sums.correct / sums.count),
        float(sums.loss / sums.count),
        sums.group_count.astype(np.int64),
        int(sums.count),
    )


def dense_reference(means: PartMeans) -> DenseReference:
    """What the constraints need to know of the dense model, from its means on the training part."""
    arrays = (
        means.group_accuracy,
        means.accuracy,
        means.group_loss,
        means.loss,
        means.group_count / means.count,
        means.group_count,
    )
    return DenseReference(*(jnp.asarray(array, jnp.float32) for array in arrays))


def predict(model: Model, variables: Variables, data: Dataset, batch_size: int = 512) -> Array:
    """`(sample, class)` logits of a network on a whole part, as it is deployed."""

    @jax.jit
    def logits(variables, data, indices):
        batch, _ = gather(data, indices)
        return model.apply(variables, batch.inputs, train=False, key=None)[0]

    batches = ordered_indices(data.size, min(batch_size, data.size))
    found = jnp.concatenate([logits(variables, data, indices) for indices in batches])
    return found[: data.size]
