"""Estimates how many members of a program fit into memory."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from bap_jax import data, sharding
from bap_jax.pipeline.context import RunContext
from bap_jax.training import Execution, Settings
from bap_jax.types import PyTree

# A state as it goes in and comes out, a copy inside the loop, gradients, selected iterate.
_COPIES_OF_STATE = 6
_SHARE = 0.5
_UNKNOWN = 2**32  # bytes, where the system does not say
# Per constraint and step, numbers of two epochs at a time: three float32 and two bool.
_BYTES_OF_CONSTRAINT = 2 * (3 * 4 + 2)


def capacity(context: RunContext, settings: Settings, count: int) -> int:
    """How many of `count` members to run in one program.

    This compares half of the free memory with a rough upper estimate of what one member takes: its
    state several times over and, where members run at once, twice all values of a forward pass.

    Args:
      context: dense network and data; `execution.chunk`, unless 0, is the limit instead.
      settings: of any of the members.
      count: number of members.
    """
    execution = context.execution
    if execution.members == "single":
        return 1
    limit = execution.chunk or max(1, int(free_bytes() // _member_bytes(context, settings)))
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


def _member_bytes(context, settings):
    need = _COPIES_OF_STATE * _bytes(context.variables)
    need += len(context.splits.group_names) * settings.constraint.buffer_size
    steps = data.num_batches(context.splits.train.size, settings.batch_size)
    need += steps * len(context.splits.group_names) * _BYTES_OF_CONSTRAINT
    if context.execution.members == "vmap":
        need += 2 * _forward_bytes(context, settings.batch_size)
    return max(need, 1)


def _forward_bytes(context, batch_size):
    """Bytes of all values that a forward pass computes."""
    example = data.example(context.splits.train)
    inputs = jax.ShapeDtypeStruct((batch_size, *example.shape[1:]), example.dtype)

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
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


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
