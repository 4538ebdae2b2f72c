"""Evaluates a network on a whole split: sums for each group, divided at the end."""

import functools
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from bap_jax import metrics, sharding
from bap_jax.data.batches import feed, gather, ordered_indices
from bap_jax.data.records import Records
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model
from bap_jax.training.split_sums import (
    BatchEvaluation,
    SplitMeans,
    SplitSums,
    evaluation_means,
)
from bap_jax.types import Array, Dataset, Variables


class Evaluator(Protocol):
    """What `make_evaluator` returns."""

    def __call__(
        self, variables: Variables, data: Dataset, num_samples: int | None = None
    ) -> SplitMeans:
        """Evaluates a network on a split.

        Args:
          variables: its arrays.
          data: the split, on the host or the device.
          num_samples: of the split, if `data` already lie on the mesh and may hold more rows.
        """
        ...


class SumOverSplit(Protocol):
    """What `make_split_sums` returns; pure."""

    def __call__(self, variables: Variables, data: Dataset) -> SplitSums:
        """Sums of each step over a split on the device; every leaf has a leading axis `step`."""
        ...


class EvaluateSplit(Protocol):
    """What `make_split_evaluation` returns; pure."""

    def __call__(self, variables: Variables, data: Dataset) -> BatchEvaluation:
        """Evaluates a split on the device; every leaf has a leading axis `step`."""
        ...


def evaluate_batch(
    model: Model,
    num_groups: int,
    variables: Variables,
    data: Dataset,
    indices: Array,
    criterion: Criterion = CLASSIFICATION,
) -> BatchEvaluation:
    """Sums over one batch, and what is predicted; pure.

    The network is evaluated as it is deployed: no dropout, no augmentation, running statistics.
    """
    batch, weight = gather(data, indices)
    logits, _ = model.apply(variables, batch.inputs, train=False, key=None)
    loss = metrics.sample_losses(criterion, logits, batch.labels)
    correct = metrics.sample_correct(criterion, logits, batch.labels)
    by_group = [
        metrics.group_sums(values, batch.group_ids, weight, num_groups)
        for values in (correct, loss)
    ]
    overall = [(values * weight).sum() for values in (correct, loss)]
    totals = [sums.total for sums in by_group]
    sums = SplitSums(totals[0], totals[1], by_group[0].count, overall[0], overall[1], weight.sum())
    if not criterion.has_classes:
        return BatchEvaluation(sums, None, correct)
    return BatchEvaluation(sums, jnp.argmax(logits, axis=-1).astype(jnp.int32))


def make_split_sums(
    model: Model,
    num_groups: int,
    num_samples: int,
    *,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> SumOverSplit:
    """A pure function that sums over a split on the device, step by step.

    Args:
      model: the network.
      num_groups: all groups of all attributes.
      num_samples: of the split; the data may hold more rows, see `sharding.place_samples`.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch.
      criterion: loss and correctness of each sample.
    """

    def split_sums(variables, data):
        each = functools.partial(
            evaluate_batch, model, num_groups, variables, data, criterion=criterion
        )
        return _in_steps(lambda indices: each(indices).sums, num_samples, batch_size, mesh)

    return split_sums


def make_split_evaluation(
    model: Model,
    num_groups: int,
    num_samples: int,
    *,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> EvaluateSplit:
    """The same, with what is predicted for each sample; arguments as for `make_split_sums`."""

    def split_evaluation(variables, data):
        each = functools.partial(
            evaluate_batch, model, num_groups, variables, data, criterion=criterion
        )
        return _in_steps(each, num_samples, batch_size, mesh)

    return split_evaluation


def _in_steps(each, num_samples, batch_size, mesh):
    batches = ordered_indices(num_samples, min(batch_size, num_samples), jnp)
    return sharding.everywhere(jax.lax.map(each, sharding.split_batch(batches, mesh)), mesh)


def make_evaluator(
    model: Model,
    num_groups: int,
    batch_size: int = 512,
    mesh: Mesh | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> Evaluator:
    """A function that evaluates networks on splits.

    The network is evaluated as it is deployed: no dropout, no augmentation, running statistics.
    One program of a whole batch serves all splits; over several devices each size of a split has
    its own.

    Args:
      model: the network.
      num_groups: all groups of all attributes.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch.
      criterion: loss and correctness of each sample.
    """

    @jax.jit
    def on_batch(variables, data, indices):
        indices = sharding.split_batch(indices, mesh)
        evaluation = evaluate_batch(model, num_groups, variables, data, indices, criterion)
        return sharding.everywhere(evaluation, mesh)

    @functools.cache
    def on_split(num_samples):
        how = {"batch_size": batch_size, "mesh": mesh, "criterion": criterion}
        return jax.jit(make_split_evaluation(model, num_groups, num_samples, **how))

    def evaluate(variables, data, num_samples=None):
        variables = sharding.replicate(variables, mesh)
        size = data.size if num_samples is None else num_samples
        if isinstance(data.inputs, Records):
            batches = feed(data, ordered_indices(size, min(batch_size, size)), mesh=mesh)
        elif mesh is None:
            data = jax.tree.map(jnp.asarray, data)
            batches = (_rows(data, indices) for indices in ordered_indices(size, batch_size))
        else:
            data = data if num_samples else sharding.place_samples(data, mesh)
            return evaluation_means(on_split(size)(variables, data), size)
        each = jax.device_get([on_batch(variables, *batch) for batch in batches])
        return evaluation_means(jax.tree.map(lambda *fields: np.stack(fields), *each), size)

    return evaluate


@jax.jit
def _rows(data, indices):
    """The samples of a batch and which of them count; a small program for each size of a split."""
    rows = jnp.where(indices < 0, -1 - indices, indices)
    return jax.tree.map(lambda leaf: leaf[rows], data), indices >= 0


def predict(
    model: Model,
    variables: Variables,
    data: Dataset,
    batch_size: int = 512,
    *,
    num_samples: int | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """`(sample, ...)` logits of a network, as it is deployed, on a whole split.

    Args:
      model: the network.
      variables: its arrays.
      data: the split, on the mesh if there is one, or streamed.
      batch_size: samples of a step.
      num_samples: of the data, where these hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch.
    """

    @jax.jit
    def logits(variables, data, indices):
        batch, _ = gather(data, sharding.split_batch(indices, mesh))
        of_batch, _ = model.apply(variables, batch.inputs, train=False, key=None)
        return sharding.everywhere(of_batch, mesh)

    size = data.size if num_samples is None else num_samples
    order = ordered_indices(size, min(batch_size, size))
    batches = [logits(variables, *pair) for pair in feed(data, order, mesh=mesh)]
    return jnp.concatenate(batches)[:size]
