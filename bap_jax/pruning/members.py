"""A condition that stays one for each member of a batch of runs.

Under `vmap` a plain `lax.cond` with a batched predicate computes both branches for every member, on
every step. Here members are looked at one after another, and only where one of them needs it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bap_jax.types import Array


def cond_per_member(
    predicate: Array | bool, update: Callable, keep: Callable, *operands: Any
) -> Any:
    """`update(*operands)` where the predicate holds, else `keep(*operands)`.

    Args:
      predicate: `()` bool.
      update, keep: pure functions of equal result types that close over no batched array.
      *operands: trees of arrays.
    """

    @jax.custom_batching.custom_vmap
    def choose(predicate, operands):
        return jax.lax.cond(predicate, update, keep, *operands)

    @choose.def_vmap
    def rule(axis_size, in_batched, predicate, operands):
        batched, whole = in_batched
        every = jax.tree.map(
            lambda leaf, is_batched: leaf if is_batched else _repeat(leaf, axis_size),
            operands,
            whole,
        )
        if batched:
            found = jax.lax.cond(
                jnp.any(predicate),
                lambda: jax.lax.map(lambda member: choose(*member), (predicate, every)),
                lambda: jax.vmap(lambda member: keep(*member))(every),
            )
        else:
            found = jax.lax.cond(
                predicate,
                lambda: jax.lax.map(lambda member: update(*member), every),
                lambda: jax.vmap(lambda member: keep(*member))(every),
            )
        return found, jax.tree.map(lambda leaf: True, found)

    return choose(jnp.asarray(predicate), operands)


def _repeat(leaf, axis_size):
    leaf = jnp.asarray(leaf)
    return jnp.broadcast_to(leaf[None], (axis_size, *leaf.shape))
