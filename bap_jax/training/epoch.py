"""An epoch as one pure function, for one member or for several.

order of samples ─► scan over batches: step ─► what is to be known at the end
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from bap_jax import sharding
from bap_jax.data.batches import epoch_indices
from bap_jax.training import finite
from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.training.step import Trainer
from bap_jax.types import Array, PyTree


class Program(NamedTuple):
    """Training runs that differ in arrays only, as functions of these arrays.

    Attributes:
      trainer: `(values, shared) -> Trainer`, called while tracing.
      keys: `values -> ` what seeds the order of samples, and the state.
      observe: `(TrainState, values, shared) -> ` whatever is wanted of the end of an epoch.
      num_samples: of the training split.
      batch_size: samples of a step.
      mesh: devices that share the samples of a batch.
    """

    trainer: Callable[[PyTree, PyTree], Trainer]
    keys: Callable[[PyTree], tuple[Array, Array]]
    observe: Callable[[TrainState, PyTree, PyTree], PyTree]
    num_samples: int
    batch_size: int
    mesh: Mesh | None = None


def epoch_order(program: Program, values: PyTree, epoch: Array | int) -> Array:
    """`(step, batch)` indices of an epoch, see `data.batches`."""
    key = jax.random.fold_in(program.keys(values)[0], epoch)
    order = epoch_indices(key, program.num_samples, program.batch_size)
    return sharding.split_batch(order, program.mesh)


def make_order(program: Program) -> Callable[[PyTree, Array | int], Array]:
    """`(values, epoch) -> ` `epoch_order`, whole on every device, for a loop over its rows."""

    def order(values, epoch):
        return sharding.everywhere(epoch_order(program, values, epoch), program.mesh)

    return order


def make_epoch(program: Program) -> Callable[..., tuple[TrainState, StepMetrics, Any]]:
    """`(state, values, shared, data, epoch) -> (state, metrics (step, ...), end)`.

    `end` is whether all weights are finite, and what the program observes.
    """

    def epoch(state, values, shared, data, number):
        trainer = program.trainer(values, shared)

        def step(state, indices):
            return trainer.step(state, data, indices, number)

        state, metrics = jax.lax.scan(step, state, epoch_order(program, values, number))
        end = finite.all_finite(state.params), program.observe(state, values, shared)
        found = state, metrics, end
        return sharding.everywhere(found, program.mesh)

    return epoch


def over_members(function: Callable, how: str, num_batched: int, mesh: Mesh | None = None):
    """A function of one member made a function of several, stacked along a leading axis.

    Args:
      function: its first `num_batched` arguments and its results belong to a member.
      how: `vmap`, `map`, or `single`, as any axis of length 1 is treated.
      num_batched: the others are shared.
      mesh: devices among which the members are shared out; their number must divide.
    """

    def together(*args):
        own, shared = args[:num_batched], args[num_batched:]
        alone = jax.tree.leaves(own)[0].shape[0] == 1
        if how == "vmap" and not alone:
            return jax.vmap(lambda *own: function(*own, *shared))(*own)
        if how == "map" and not alone:
            return jax.lax.map(lambda own: function(*own, *shared), own)
        found = function(*jax.tree.map(lambda leaf: leaf[0], own), *shared)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], found)

    if mesh is None:
        return together
    each = PartitionSpec(sharding.AXIS)

    def spread(*args):
        specs = (each,) * num_batched + (PartitionSpec(),) * (len(args) - num_batched)
        return jax.shard_map(together, mesh=mesh, in_specs=specs, out_specs=each, check_vma=False)(
            *args
        )

    return spread


def make_step(program: Program) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """`(state, values, shared, data, indices (batch,), epoch) -> (state, metrics (1, ...))`."""

    def step(state, values, shared, data, indices, number):
        indices = sharding.split_batch(indices, program.mesh)
        state, metrics = program.trainer(values, shared).step(state, data, indices, number)
        found = state, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], metrics)
        return sharding.everywhere(found, program.mesh)

    return step
