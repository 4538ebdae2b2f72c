"""A dense network beside its data, laid out once for all runs that start from it."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from bap_jax import data, models, sharding, training
from bap_jax.constraints import DenseReference
from bap_jax.models import Model
from bap_jax.training import Execution, PartMeans
from bap_jax.types import Dataset, Variables


class RunContext(NamedTuple):
    """What runs of one dense network share.

    Attributes:
      model: the network.
      variables: its trained arrays, on every device.
      parts: of the data, on the host.
      train, validation: the same parts where the steps find them, see `sharding.place_samples`.
      reference: the dense network on the training part.
      evaluate: `(Variables, name of a part) -> PartMeans`.
      dense_means: `name of a part -> PartMeans` of the dense network, evaluated when first asked.
      execution: how programs run, resolved.
      mesh: devices that share the samples of a batch; None for one, and where these share members.
    """

    model: Model
    variables: Variables
    parts: data.Parts
    train: Dataset
    validation: Dataset
    reference: DenseReference
    evaluate: Callable[[Variables, str], PartMeans]
    dense_means: Callable[[str], PartMeans]
    execution: Execution
    mesh: Mesh | None


def make_context(
    model: Model, variables: Variables, parts: data.Parts, execution: Execution | None = None
) -> RunContext:
    """Lays out data and dense network, and evaluates that on the training part.

    Args:
      model: the network.
      variables: its trained arrays.
      parts: of the data; the test part is not touched until it is asked for.
      execution: how programs are to run; by default as the backend likes it, on one device.

    Raises:
      UserError: `execution` asks for what cannot be.
    """
    execution = resolve_execution(model, variables, parts.train, execution or Execution())
    mesh = execution.mesh() if execution.spread == "data" else None
    evaluator = training.make_evaluator(model, len(parts.group_names), mesh=mesh)
    variables = sharding.replicate(variables, mesh)

    @functools.cache
    def placed(name):
        return place(getattr(parts, name), mesh)

    def evaluate(chosen, name):
        return evaluator(chosen, placed(name), getattr(parts, name).size)

    @functools.cache
    def dense_means(name):
        return evaluate(variables, name)

    return RunContext(
        model,
        variables,
        parts,
        placed("train"),
        placed("validation"),
        training.dense_reference(dense_means("train")),
        evaluate,
        dense_means,
        execution,
        mesh,
    )


def place(part: Dataset, mesh: Mesh | None) -> Dataset:
    """A part on the devices; what is streamed stays on the host."""
    if data.is_streamed(part) or mesh is None:
        return data.on_device(part)
    labels, ids = (np.asarray(leaf, np.int32) for leaf in (part.labels, part.group_ids))
    return sharding.place_samples(part._replace(labels=labels, group_ids=ids), mesh)


def resolve_execution(
    model: Model, variables: Variables, train: Dataset, execution: Execution
) -> Execution:
    """The choices of `execution`, made for this network and data."""
    found = models.convolutions(model, variables, data.example(train))
    return training.resolve_execution(
        execution,
        streamed=data.is_streamed(train),
        has_convolutions=found.any,
        slow_in_loops=found.slow_in_loops,
    )
