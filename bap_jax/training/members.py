"""Arrays of several members, with a leading axis `member`, and functions over them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.types import Array, PyTree


class StepBlock(NamedTuple):
    """Numbers of some steps.

    Attributes:
      epoch: of all of them.
      first: the number of the first step.
      metrics: `(member, step, ...)` on the host.
    """

    epoch: int
    first: int
    metrics: StepMetrics


class MembersEnd(NamedTuple):
    """The end of an epoch of a program.

    Attributes:
      epoch: its number.
      states: after it, `(member, ...)`, copied to the host; random keys stay on the device.
      is_finite: `(member,)` bool, whether all weights are finite.
      observed: what the program observes, `(member, ...)` on the host.
    """

    epoch: int
    states: TrainState
    is_finite: np.ndarray
    observed: Any


def map_in_place(function, states, *own):
    """`jax.lax.map` of a function whose first result takes the place of its first argument."""

    def on_member(states, index_and_own):
        index, own = index_and_own
        take = functools.partial(jax.lax.dynamic_index_in_dim, index=index, axis=0, keepdims=False)
        new, *others = function(jax.tree.map(take, states), *own)
        put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=index, axis=0)
        return jax.tree.map(put, states, new), others

    count = jax.tree.leaves(states)[0].shape[0]
    states, others = jax.lax.scan(on_member, states, (jnp.arange(count), own))
    return states, *others


def member_step(metrics: StepMetrics, member: int, step: int) -> StepMetrics:
    """The numbers of one step of one member, from `(member, step, ...)`."""
    return jax.tree.map(lambda leaf: leaf[member, step], metrics)


def member_state(states: PyTree, member: int | Array) -> PyTree:
    """The arrays of one member, from `(member, ...)`."""
    return jax.tree.map(lambda leaf: leaf[member], states)


def own_member_state(states: PyTree, member: int) -> PyTree:
    """The same from arrays on the host; the result keeps none of the other members' in memory."""

    def own(leaf):
        return leaf[member] if isinstance(leaf, jax.Array) else np.array(leaf[member])

    return jax.tree.map(own, states)


def copy_to_host(tree: PyTree) -> PyTree:
    """Copies of arrays on the host, which remain when the arrays are donated.

    Random keys are copied on the device, because they have no form on the host.
    """
    leaves, structure = jax.tree.flatten(tree)
    for leaf in leaves:
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    return jax.tree.unflatten(structure, [_copy_leaf_to_host(leaf) for leaf in leaves])


def _copy_leaf_to_host(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.copy(leaf)
    # On a CPU, NumPy's view of an array is the array's own memory.
    return np.array(leaf) if jax.default_backend() == "cpu" else np.asarray(leaf)


def stacked(tree: PyTree) -> PyTree:
    """The same arrays with a leading axis of length 1; those on the host stay there."""
    return jax.tree.map(lambda leaf: leaf[None], tree)


def as_member(tree: PyTree) -> PyTree:
    """The same within a compiled function, where numbers become arrays."""
    return stacked(jax.tree.map(jnp.asarray, tree))
