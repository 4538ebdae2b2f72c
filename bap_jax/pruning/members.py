"""A condition that is decided separately for each member of a batch of runs.

Under `vmap` a plain `lax.cond` with a batched predicate computes both branches for every member, at
every step. Here a loop visits only those members that need the costly branch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend import core

from bap_jax.types import Array


def cond_per_member(
    predicate: Array | bool, update: Callable, keep: Callable, *operands: Any
) -> Any:
    """`update(*operands)` where the predicate holds, else `keep(*operands)`.

    Args:
      predicate: `()` bool.
      update: a pure function, called once; it may close over traced arrays, for instance a member's
        key.
      keep: a cheap function with the same result types that closes over no traced arrays.
      *operands: trees of arrays.
    """
    opened, consts = _with_consts_as_operands(update, operands)
    if any(isinstance(const, Tracer) for const in consts):

        def keep_opened(consts, *operands):
            del consts
            return keep(*operands)

        return _choose(predicate, opened, keep_opened, consts, *operands)
    # What has been traced, so that `update` is called once.
    return _choose(predicate, functools.partial(opened, consts), keep, *operands)


def _with_consts_as_operands(function, operands):
    """`function` with what it closes over as its first operand, and those values."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
    structure = jax.tree.structure(shapes)

    def opened(consts, *operands):
        run = core.jaxpr_as_fun(core.ClosedJaxpr(closed.jaxpr, consts))
        return jax.tree.unflatten(structure, run(*jax.tree.leaves(operands)))

    return opened, closed.consts


def _choose(predicate, update, keep, *operands):
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
        results = _visit_members(choose, keep, *whole)
        return results, jax.tree.map(lambda leaf: True, results)

    return choose(jnp.asarray(predicate), operands)


def _visit_members(choose, keep, predicate, operands):
    """Updates the members whose predicate holds, one after another, each at the cost of one run."""
    order = jnp.argsort(~predicate)  # members whose predicate holds come first

    def visit(i, results):
        member = order[i]
        # Tested again because this loop may itself be batched, and then goes on for the others.
        new = choose(predicate[member], jax.tree.map(lambda leaf: leaf[member], operands))
        return jax.tree.map(lambda leaf, row: leaf.at[member].set(row), results, new)

    kept = jax.vmap(lambda member: keep(*member))(operands)
    return jax.lax.fori_loop(0, jnp.sum(predicate), visit, kept)


def _repeat(leaf, axis_size):
    leaf = jnp.asarray(leaf)
    return jnp.broadcast_to(leaf[None], (axis_size, *leaf.shape))
