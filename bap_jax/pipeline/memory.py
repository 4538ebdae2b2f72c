"""How many members of a program fit into memory."""

import math
import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from bap_jax import data, sharding
from bap_jax.pipeline.context import RunContext
from bap_jax.training import Execution
from bap_jax.training.settings import Settings
from bap_jax.types import PyTree

# A state as it goes in and comes out, a copy inside the loop, gradients, selected iterate.
_COPIES_OF_STATE = 6
_SHARE = 0.5
_UNKNOWN = 2**32  # bytes, where the system does not tell
# Of a constraint in the numbers of a step: three float32 and two bool, of two epochs at a time.
_BYTES_OF_CONSTRAINT = 2 * (3 * 4 + 2)


def capacity(context: RunContext, settings: Settings, count: int) -> int:
    """How many of `count` members to run in one program.

    A rough upper estimate of what a member takes, against half of the memory that is free: its
    state several times over and, where members run at once, twice all values of a forward pass.

    Args:
      context: dense network and data; `execution.chunk`, where not 0, is the answer.
      settings: of any of the members.
      count: members there are.
    """
    chosen = context.execution
    if chosen.members == "single":
        return 1
    limit = chosen.chunk or max(1, int(free_bytes() // _member_bytes(context, settings)))
    limit = min(limit, count)
    if chosen.spread == "members":
        mesh = chosen.mesh()
        count = mesh.size if mesh else 1
        limit = max(limit // count, 1) * count
    return limit


def read_what_fits(splits: data.Splits, execution: Execution) -> data.Splits:
    """Splits whose streamed samples are in memory where half of it, left free, holds them all.

    Args:
      splits: of the data; arrays stay as they are.
      execution: with `epoch='loop'` streamed data stay streamed.
    """
    chosen = [getattr(splits, name) for name in data.SPLITS]
    streamed = any(map(data.is_streamed, chosen))
    if not streamed or execution.epoch == "loop":
        return splits
    if execution.epoch == "auto" and sum(map(data.nbytes, chosen)) > free_bytes():
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
    """Of every value that a forward pass computes."""
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
    """Half of the memory that is free on the device; of several processes, on the first one's."""
    # All processes must decide alike, and memory differs.
    return float(sharding.from_first_process(np.float32(_own_free_bytes())))


def _own_free_bytes():
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return _SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    known = os.sysconf_names
    pages = next((n for n in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES") if n in known), None)
    return _SHARE * (os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages else _UNKNOWN)
