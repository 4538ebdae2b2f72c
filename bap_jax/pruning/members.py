"""A condition that stays one for each member of a batch of runs.

Under `vmap` a plain `lax.cond` with a batched predicate computes both branches for every member, on
every step. Here a loop goes through the members that need the costly branch, and through no others.
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
      update, keep: pure functions of equal result types that close over no batched array; `keep` is
        cheap.
      *operands: trees of arrays.
    """

    @jax.custom_batching.custom_vmap
    def choose(predicate, operands):
        return jax.lax.cond(predicate, update, keep, *operands)

    @choose.def_vmap
    def rule(axis_size, in_batched, predicate, operands):
        whole = jax.tree.map(
            lambda leaf, is_batched: leaf if is_batched else _repeat(leaf, axis_size),
            (predicate, operands),
            tuple(in_batched),
        )
        found = _go_through(choose, keep, *whole)
        return found, jax.tree.map(lambda leaf: True, found)

    return choose(jnp.asarray(predicate), operands)


def _go_through(choose, keep, predicate, operands):
    """Members whose predicate holds, one after another; each costs what it costs alone."""
    order = jnp.argsort(~predicate)  # those first

    def visit(i, found):
        member = order[i]
        # Asked again because this loop may itself be batched, and then goes on for the others.
        new = choose(predicate[member], jax.tree.map(lambda leaf: leaf[member], operands))
        return jax.tree.map(lambda leaf, one: leaf.at[member].set(one), found, new)

    kept = jax.vmap(lambda member: keep(*member))(operands)
    return jax.lax.fori_loop(0, jnp.sum(predicate), visit, kept)


def _repeat(leaf, axis_size):
    leaf = jnp.asarray(leaf)
    return jnp.broadcast_to(leaf[None], (axis_size, *leaf.shape))
