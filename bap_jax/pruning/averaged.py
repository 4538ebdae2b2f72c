"""Averaged weights that an optimiser keeps beside those that it trains.

A schedule-free optimiser takes gradients at y, and the network is to be used with the average x:

    y = β x + (1 − β) z ,   so   x = (y − (1 − β) z) / β

z is in its state (`optax.contrib.ScheduleFreeState`), and has a value for removed weights, too.
With z = 0 where y = 0, x is 0 there as well.

Source: A. Defazio et al., "The road less scheduled", arXiv 2405.15682.
"""

import functools

import jax
import jax.numpy as jnp
import optax
from optax.contrib import ScheduleFreeState

from bap_jax.pruning.masks import is_absent
from bap_jax.trees import unboxed
from bap_jax.types import Params, PyTree


def schedule_free_states(opt_state: PyTree) -> list[ScheduleFreeState]:
    """Every state of a schedule-free optimiser in an optimiser's state."""
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_schedule_free)
    return [node for node in nodes if _is_schedule_free(node)]


def evaluation_params(params: Params, opt_state: PyTree) -> Params:
    """The weights with which to use a network: x of a schedule-free optimiser, else `params`.

    Args:
      params: the weights that the optimiser trains, y; on the device or on the host.
      opt_state: its state, or any tree that holds it. Parts of `optax.multi_transform` count for
        their own weights.
    """
    for state in schedule_free_states(opt_state):
        average = functools.partial(_average, b1=unboxed(state.b1))
        found = jax.tree.map(average, unboxed(state.z), unboxed(params), is_leaf=_is_masked)
        params = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found))
    return params


def with_removed_at_zero(opt_state: PyTree, masks: PyTree) -> PyTree:
    """The state with z = 0 for removed weights.

    Args:
      opt_state: of the optimiser that is wrapped.
      masks: of its weights, not packed.
    """

    def zero(leaf, mask):
        is_kept = _is_masked(leaf) or is_absent(mask)
        return leaf if is_kept else jnp.where(mask, leaf, 0).astype(leaf.dtype)

    def on_node(node):
        if not _is_schedule_free(node):
            return node
        return node._replace(z=jax.tree.map(zero, node.z, masks, is_leaf=_is_masked))

    return jax.tree.map(on_node, opt_state, is_leaf=_is_schedule_free)


def _average(z, y, b1):
    # A part that another optimiser of `multi_transform` trains: leaves or whole subtrees.
    return y if _is_masked(z) else ((y - (1 - b1) * z) / b1).astype(y.dtype)


def _is_schedule_free(node):
    return isinstance(node, ScheduleFreeState)


def _is_masked(node):
    return isinstance(node, optax.MaskedNode)
