"""A dense network and its data, laid out once for all runs that start from them."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh

from bap_jax import data, sharding, training
from bap_jax.constraints import DenseReference
from bap_jax.data.batches import epoch_indices, feed, gather, with_narrow_labels
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model, check_modes, loops
from bap_jax.training import Execution
from bap_jax.training.execution import resolve_execution
from bap_jax.training.split_sums import SplitMeans
from bap_jax.types import Dataset, Variables


class RunContext:
    """What runs of one dense network share; `make_context` makes one.

    Args:
      model: the network.
      variables: its trained arrays.
      splits: of the data, on the host.
      execution: how programs run, resolved.
      mesh: devices that share the samples of a batch, or None.
      criterion: loss and correctness of each sample.

    Attributes:
      model: the network.
      variables: its trained arrays, on every device.
      splits: of the data, on the host.
      train, validation: the same splits where the steps find them, see `sharding.place_samples`.
      reference: the dense network on the training split.
      execution: how programs run, resolved.
      mesh: devices that share the samples of a batch; None for a single device, and where devices
        share the members.
      criterion: loss and correctness of each sample.

    Raises:
      UserError: a criterion of a user calls a training sample neither right nor wrong.
    """

    def __init__(
        self,
        model: Model,
        variables: Variables,
        splits: data.Splits,
        execution: Execution,
        mesh: Mesh | None,
        criterion: Criterion = CLASSIFICATION,
    ):
        self.model, self.splits = model, splits
        self.execution, self.mesh, self.criterion = execution, mesh, criterion
        self.variables: Variables = sharding.replicate(variables, mesh)
        self._evaluator = training.make_evaluator(
            model, len(splits.group_names), mesh=mesh, criterion=criterion
        )
        self._placed: dict[str, Dataset] = {}
        self._dense_means: dict[str, SplitMeans] = {}
        self.train, self.validation = self._place("train"), self._place("validation")
        self.reference: DenseReference = training.dense_reference(
            self.dense_means("train"), self._class_overlap()
        )

    def evaluate(self, variables: Variables, split: str) -> SplitMeans:
        """Evaluates a network on a split.

        Args:
          variables: arrays of the network, dense or pruned.
          split: one of `data.SPLITS`.
        """
        return self._evaluator(variables, self._place(split), getattr(self.splits, split).size)

    def dense_means(self, split: str) -> SplitMeans:
        """The dense network on a split; it is evaluated when first asked for."""
        if split not in self._dense_means:
            self._dense_means[split] = self.evaluate(self.variables, split)
        return self._dense_means[split]

    def train_with_dense_logits(self) -> Dataset:
        """The training split with the dense network's logits."""
        size = self.splits.train.size
        logits = training.predict(
            self.model, self.variables, self.train, num_samples=size, mesh=self.mesh
        )
        logits = np.asarray(logits)
        if not data.is_streamed(self.train):
            logits = sharding.place_samples(logits, self.mesh)
        return self.train._replace(dense_logits=logits)

    def with_new_statistics(self, variables: Variables, batch_size: int, seed: int) -> Variables:
        """A network with the statistics that its forward passes move, taken anew.

        They start from those of `variables` and are moved by every batch of one pass over the
        training split, in random order, with dropout and augmentation as in a step. Nothing is
        done for networks without such arrays.

        Args:
          variables: arrays of the network; those of the weights stay as they are.
          batch_size: samples of a step.
          seed: of the order, of dropout and of augmentation.
        """
        variables = sharding.replicate(jax.device_put(variables), self.mesh)
        if not jax.tree.leaves(variables.state):
            return variables
        order_key, key = jax.random.split(jax.random.key(seed))
        order = epoch_indices(order_key, self.splits.train.size, batch_size)
        for step, batch in enumerate(feed(self.train, order, mesh=self.mesh)):
            state = self._moved_state(variables, *batch, jax.random.fold_in(key, step))
            variables = variables._replace(state=state)
        return variables

    @functools.cached_property
    def _moved_state(self):
        @jax.jit
        def moved_state(variables, samples, indices, key):
            batch, _ = gather(samples, sharding.split_batch(indices, self.mesh))
            _, state = self.model.apply(variables, batch.inputs, train=True, key=key)
            return sharding.everywhere(state, self.mesh)

        return moved_state

    def _class_overlap(self):
        """Of labels that are class ids; two different floats, such as 0.0 and 1.0, are as well."""
        train = self.splits.train
        if getattr(train.labels, "ndim", 0) != 1:
            return 1.0
        values, ids = np.unique(np.asarray(train.labels), return_inverse=True)
        if values.dtype.kind not in "biu" and values.size > 2:
            return 1.0
        return training.class_overlap(ids, train.group_ids, len(self.splits.group_names))

    def _place(self, split: str) -> Dataset:
        if split not in self._placed:
            self._placed[split] = place(getattr(self.splits, split), self.mesh)
        return self._placed[split]


def make_context(
    model: Model,
    variables: Variables,
    splits: data.Splits,
    execution: Execution | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> RunContext:
    """Lays out data and dense network, and evaluates the network on the training split.

    Args:
      model: the network.
      variables: its trained arrays.
      splits: of the data; the test split is not touched until it is asked for.
      execution: how programs run; by default what suits the backend, on one device.
      criterion: loss and correctness of each sample.

    Raises:
      UserError: the choices of `execution` do not go together, a criterion of a user calls a
        training sample neither right nor wrong, or the network acts in training as in evaluation
        although it has dropout or batch normalisation, see `models.check_modes`.
    """
    check_modes(model, variables, data.example(splits.train))
    execution = execution_for(model, variables, splits.train, execution or Execution())
    mesh = execution.mesh() if execution.spread == "data" else None
    return RunContext(model, variables, splits, execution, mesh, criterion)


def place(split: Dataset, mesh: Mesh | None) -> Dataset:
    """A split on the devices; streamed samples stay on the host."""
    if data.is_streamed(split) or mesh is None:
        return data.on_device(split)
    return sharding.place_samples(with_narrow_labels(split), mesh)


def execution_for(
    model: Model, variables: Variables, train: Dataset, execution: Execution
) -> Execution:
    """Makes the choices that `execution` leaves open, for this network and these data."""
    convolutions = loops.convolutions(model, variables, data.example(train))
    return resolve_execution(
        execution,
        streamed=data.is_streamed(train),
        has_convolutions=convolutions.any,
        slow_in_loops=convolutions.slow_in_loops,
    )
