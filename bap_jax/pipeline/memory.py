"""Estimates how many members of a program fit into memory."""

import math
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from bap_jax import data, sharding, training
from bap_jax.data.input_arrays import batch_of
from bap_jax.data.inputs import sample_of
from bap_jax.pipeline.assembly import trainer_from_settings
from bap_jax.pipeline.context import RunContext
from bap_jax.pruning import registry
from bap_jax.training import Execution, Settings
from bap_jax.training.methods import build_method
from bap_jax.types import PyTree

# Gradients, and weights before and after the masks of an epoch's first step.
_COPIES_OF_WEIGHTS = 3
# The ends of two epochs; the last iterate and those that may be chosen, which are smaller, are as
# much as a third.
_COPIES_ON_HOST = 3
_SHARE = 0.5
_UNKNOWN = 2**32  # bytes, where the system does not say
# Per constraint and step, numbers of two epochs at a time: three float32 and two bool.
_BYTES_OF_CONSTRAINT = 2 * (3 * 4 + 2)


class Need(NamedTuple):
    """Upper estimates in bytes of what a program needs, apart from data and dense network.

    Attributes:
      fixed: on the device, whatever the number of members.
      per_member: on the device, for each member.
      on_host: in the host's memory, for each member.
    """

    fixed: int
    per_member: int
    on_host: int


def capacity(context: RunContext, settings: Settings, count: int) -> int:
    """How many of `count` members to run in one program.

    This compares half of the free memory with the upper estimate of `need_of_program`. On a CPU
    what lies on the host counts, too.

    Args:
      context: dense network and data; `execution.chunk`, unless 0, is the limit instead.
      settings: of any of the members.
      count: number of members.
    """
    execution = context.execution
    if execution.members == "single":
        return 1
    limit = execution.chunk
    if not limit:
        need = need_of_program(context, settings)
        on_cpu = jax.default_backend() == "cpu"
        each = need.per_member + (need.on_host if on_cpu else 0)
        limit = max(1, int((free_bytes() - need.fixed) // each))
    limit = min(limit, count)
    if execution.spread == "members":
        mesh = execution.mesh()
        devices = mesh.size if mesh else 1
        limit = max(limit // devices, 1) * devices
    return limit


def read_what_fits(splits: data.Splits, execution: Execution) -> data.Splits:
    """Reads streamed samples into memory if half of the free memory holds all of them.

    Args:
      splits: of the data; splits that are arrays stay as they are.
      execution: with `epoch='loop'` streamed data stay streamed; with `device` they are read
        whatever the memory.
    """
    parts = [getattr(splits, name) for name in data.SPLITS]
    if not any(map(data.is_streamed, parts)) or execution.epoch == "loop":
        return splits
    if execution.epoch == "auto" and sum(map(data.nbytes, parts)) > free_bytes():
        return splits
    return splits._replace(**{name: data.read_all(getattr(splits, name)) for name in data.SPLITS})


def need_of_program(context: RunContext, settings: Settings) -> Need:
    """What the members of a program need.

    A member has one state, which every epoch overwrites. Beside it a step has some copies of the
    weights and all values of a forward pass: of every member under `vmap`, else of one.

    Args:
      context: dense network and data.
      settings: of any of the members.
    """
    state, num_groups = _state_bytes(context, settings), len(context.splits.group_names)
    working = _COPIES_OF_WEIGHTS * _bytes(context.variables)
    working += _forward_bytes(context, settings.batch_size)
    steps = data.num_batches(context.splits.train.size, settings.batch_size)
    own = state + steps * num_groups * _BYTES_OF_CONSTRAINT
    if context.execution.members == "vmap":
        return Need(0, own + working, _COPIES_ON_HOST * state)
    return Need(working + state, own, _COPIES_ON_HOST * state)


def _state_bytes(context, settings):
    """Bytes of the state of a member, and of masks that it is given."""
    steps = data.num_batches(context.splits.train.size, settings.batch_size)
    method = build_method(context.reference, settings)
    trainer = trainer_from_settings(context.model, method, training.no_pruning(), settings, steps)
    state = jax.eval_shape(trainer.init, context.variables, jax.random.key(0))
    masks = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(context.variables.params))
    is_given = registry.updater_class(settings.pruning.algorithm).needs_data
    return _bytes(state) + (1 + is_given) * masks


def _forward_bytes(context, batch_size):
    """Bytes of all values that a forward pass computes."""
    inputs = batch_of(sample_of(context.splits.train.inputs), batch_size)

    def forward(variables, inputs):
        return context.model.apply(variables, inputs, train=False, key=None)[0]

    return _value_bytes(jax.make_jaxpr(forward)(context.variables, inputs).jaxpr)


def _value_bytes(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        inner = [p.jaxpr for p in equation.params.values() if isinstance(p, core.ClosedJaxpr)]
        if inner:
            total += sum(map(_value_bytes, inner))
            continue
        for value in equation.outvars:
            total += math.prod(value.aval.shape) * jnp.dtype(value.aval.dtype).itemsize
    return total


def _bytes(tree: PyTree) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def free_bytes() -> float:
    """Half of the free memory of the device; with several processes, of the first one's device."""
    # All processes must decide alike, and their memory may differ.
    return float(sharding.from_first_process(np.float32(_own_free_bytes())))


def _own_free_bytes():
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return _SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    names = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES")
    pages = next((name for name in names if name in os.sysconf_names), None)
    return _SHARE * (os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages else _UNKNOWN)
