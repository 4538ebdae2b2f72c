"""Arrays of several members, with a leading axis `member`, and functions over them."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from bap_jax import sharding
from bap_jax.training.state import StepMetrics
from bap_jax.types import Array, PyTree


def over_members(
    function: Callable,
    how: str,
    num_batched: int,
    mesh: Mesh | None = None,
    *,
    is_in_place: bool = False,
):
    """Turns a function of one member into a function of several.

    Args:
      function: its first `num_batched` arguments and its results belong to one member; the other
        arguments are shared.
      how: `vmap` (all members at once), `map` (one after another within the program) or `single`;
        a single member is never batched.
      num_batched: see above.
      mesh: devices among which the members are shared out; their number must divide that of the
        members.
      is_in_place: whether the first argument is a state and the first of several results the state
        that replaces it. `map` then writes it where the old one was, so that donating it saves the
        memory of a second copy.

    Returns:
      A function whose first `num_batched` arguments and whose results have a leading axis `member`.
    """

    def of_members(*args):
        own, shared = args[:num_batched], args[num_batched:]
        is_alone = jax.tree.leaves(own)[0].shape[0] == 1
        if how == "vmap" and not is_alone:
            return jax.vmap(lambda *own: function(*own, *shared))(*own)
        if how == "map" and is_in_place and not is_alone:
            return _map_in_place(lambda *own: function(*own, *shared), *own)
        if how == "map" and not is_alone:
            return jax.lax.map(lambda own: function(*own, *shared), own)
        return as_member(function(*member_state(own, 0), *shared))

    if mesh is None:
        return of_members
    by_member = PartitionSpec(sharding.AXIS)

    def on_devices(*args):
        specs = (by_member,) * num_batched + (PartitionSpec(),) * (len(args) - num_batched)
        spread = jax.shard_map(
            of_members, mesh=mesh, in_specs=specs, out_specs=by_member, check_vma=False
        )
        return spread(*args)

    return on_devices


def _map_in_place(function, states, *own):
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
