"""A dense network beside its data, laid out once for all runs that start from it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from bap_jax import data, sharding, training
from bap_jax.constraints import DenseReference
from bap_jax.models import Model, loops
from bap_jax.training import Execution, SplitMeans
from bap_jax.types import Dataset, Variables


class RunContext(NamedTuple):
    """What runs of one dense network share.

    Attributes:
      model: the network.
      variables: its trained arrays, on every device.
      splits: of the data, on the host.
      train, validation: the same splits where the steps find them, see `sharding.place_samples`.
      reference: the dense network on the training split.
      evaluate: `(Variables, name of a split) -> SplitMeans`.
      dense_means: `name of a split -> SplitMeans` of the dense network, evaluated when first asked.
      execution: how programs run, resolved.
      mesh: devices that share the samples of a batch; None for one, and where these share members.
    """

    model: Model
    variables: Variables
    splits: data.Splits
    train: Dataset
    validation: Dataset
    reference: DenseReference
    evaluate: Callable[[Variables, str], SplitMeans]
    dense_means: Callable[[str], SplitMeans]
    execution: Execution
    mesh: Mesh | None


def make_context(
    model: Model, variables: Variables, splits: data.Splits, execution: Execution | None = None
) -> RunContext:
    """Lays out data and dense network, and evaluates that on the training split.

    Args:
      model: the network.
      variables: its trained arrays.
      splits: of the data; the test split is not touched until it is asked for.
      execution: how programs are to run; by default as the backend likes it, on one device.

    Raises:
      UserError: `execution` asks for what cannot be.
    """
    execution = resolve_execution(model, variables, splits.train, execution or Execution())
    mesh = execution.mesh() if execution.spread == "data" else None
    evaluator = training.make_evaluator(model, len(splits.group_names), mesh=mesh)
    variables = sharding.replicate(variables, mesh)

    @functools.cache
    def placed(name):
        return place(getattr(splits, name), mesh)

    def evaluate(chosen, name):
        return evaluator(chosen, placed(name), getattr(splits, name).size)

    @functools.cache
    def dense_means(name):
        return evaluate(variables, name)

    return RunContext(
        model,
        variables,
        splits,
        placed("train"),
        placed("validation"),
        training.dense_reference(dense_means("train")),
        evaluate,
        dense_means,
        execution,
        mesh,
    )


def place(split: Dataset, mesh: Mesh | None) -> Dataset:
    """A split on the devices; what is streamed stays on the host."""
    if data.is_streamed(split) or mesh is None:
        return data.on_device(split)
    labels, ids = (np.asarray(leaf, np.int32) for leaf in (split.labels, split.group_ids))
    return sharding.place_samples(split._replace(labels=labels, group_ids=ids), mesh)


def resolve_execution(
    model: Model, variables: Variables, train: Dataset, execution: Execution
) -> Execution:
    """The choices of `execution`, made for this network and data."""
    found = loops.convolutions(model, variables, data.example(train))
    return training.resolve_execution(
        execution,
        streamed=data.is_streamed(train),
        has_convolutions=found.any,
        slow_in_loops=found.slow_in_loops,
    )
