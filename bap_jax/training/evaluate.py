"""A network on a whole split: sums for each group, divided at the end."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bap_jax import metrics, sharding
from bap_jax.constraints import DenseReference
from bap_jax.data.batches import feed, gather, ordered_indices
from bap_jax.data.records import Records
from bap_jax.models import Model
from bap_jax.types import Array, Dataset, Variables


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
    """

    group_accuracy: np.ndarray
    group_loss: np.ndarray
    accuracy: float
    loss: float
    group_count: np.ndarray
    count: int


Evaluator = Callable[..., SplitMeans]


def batch_sums(
    model: Model, num_groups: int, variables: Variables, data: Dataset, indices: Array
) -> SplitSums:
    """Sums over one batch; pure.

    The network is evaluated as it is deployed: no dropout, no augmentation, running statistics.
    """
    batch, weight = gather(data, indices)
    logits, _ = model.apply(variables, batch.inputs, train=False, key=None)
    loss = metrics.cross_entropy(logits, batch.labels)
    correct = metrics.correctness(logits, batch.labels)
    by_group = [
        metrics.group_sums(values, batch.group_ids, weight, num_groups)
        for values in (correct, loss)
    ]
    overall = [(values * weight).sum() for values in (correct, loss)]
    return SplitSums(
        by_group[0].total, by_group[1].total, by_group[0].count, *overall, weight.sum()
    )


def make_split_sums(
    model: Model,
    num_groups: int,
    num_samples: int,
    *,
    batch_size: int = 512,
    mesh: Mesh | None = None,
) -> Callable[[Variables, Dataset], SplitSums]:
    """A pure function of a network and a split on the device: `SplitSums`, leading axis `step`.

    Args:
      model: the network.
      num_groups: all groups of all attributes.
      num_samples: of the split; the data may hold more rows, see `sharding.place_samples`.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch.
    """

    def split_sums(variables, data):
        batches = ordered_indices(num_samples, min(batch_size, num_samples))
        batches = sharding.split_batch(batches, mesh)
        each = functools.partial(batch_sums, model, num_groups, variables, data)
        return sharding.everywhere(jax.lax.map(each, batches), mesh)

    return split_sums


def make_evaluator(
    model: Model, num_groups: int, batch_size: int = 512, mesh: Mesh | None = None
) -> Evaluator:
    """A function `(Variables, Dataset) -> SplitMeans`, compiled once for each size of a split.

    The network is evaluated as it is deployed: no dropout, no augmentation, running statistics. A
    split that lies on the mesh already is told with its number of samples, as a third argument.

    Args:
      model: the network.
      num_groups: all groups of all attributes.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch.
    """

    @jax.jit
    def one(variables, data, indices):
        indices = sharding.split_batch(indices, mesh)
        sums = batch_sums(model, num_groups, variables, data, indices)
        return sharding.everywhere(sums, mesh)

    @functools.cache
    def whole(num_samples):
        found = make_split_sums(model, num_groups, num_samples, batch_size=batch_size, mesh=mesh)
        return jax.jit(found)

    def evaluate(variables, data, num_samples=None):
        variables = sharding.replicate(variables, mesh)
        if isinstance(data.inputs, Records):
            order = ordered_indices(data.size, min(batch_size, data.size))
            sums = [one(variables, *pair) for pair in feed(data, order, mesh=mesh)]
            return split_means(jax.tree.map(lambda *fields: np.stack(fields), *sums))
        if num_samples is None:
            num_samples, data = data.size, sharding.place_samples(data, mesh)
        return split_means(whole(num_samples)(variables, data))

    return evaluate


def split_means(sums: SplitSums) -> SplitMeans:
    """Means from sums with a leading axis `step`; added up in float64 on the host."""
    return _divide(SplitSums(*(np.asarray(x, np.float64).sum(0) for x in sums)))


def _divide(sums: SplitSums) -> SplitMeans:
    with np.errstate(invalid="ignore", divide="ignore"):
        group_accuracy = sums.group_correct / sums.group_count
        group_loss = sums.group_loss / sums.group_count
    return SplitMeans(
        group_accuracy,
        group_loss,
        float(sums.correct / sums.count),
        float(sums.loss / sums.count),
        sums.group_count.astype(np.int64),
        int(sums.count),
    )


def dense_reference(means: SplitMeans) -> DenseReference:
    """What the constraints need of the dense model, from its means on the training split."""
    arrays = (
        means.group_accuracy,
        means.accuracy,
        means.group_loss,
        means.loss,
        means.group_count / means.count,
        means.group_count,
    )
    return DenseReference(*(jnp.asarray(array, jnp.float32) for array in arrays))


def predict(
    model: Model,
    variables: Variables,
    data: Dataset,
    batch_size: int = 512,
    *,
    num_samples: int | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """`(sample, class)` logits of a network on a whole split, as it is deployed.

    Args:
      model: the network.
      variables: its arrays.
      data: the split; where there is a mesh, on it, or streamed.
      batch_size: samples of a step.
      num_samples: of the data, where these hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch.
    """

    @jax.jit
    def logits(variables, data, indices):
        batch, _ = gather(data, sharding.split_batch(indices, mesh))
        found = model.apply(variables, batch.inputs, train=False, key=None)[0]
        return sharding.everywhere(found, mesh)

    size = data.size if num_samples is None else num_samples
    order = ordered_indices(size, min(batch_size, size))
    found = [logits(variables, *pair) for pair in feed(data, order, mesh=mesh)]
    return jnp.concatenate(found)[:size]
