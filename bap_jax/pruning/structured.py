"""Structured pruning: whole channels go, by groups of arrays that share them.

The score of a channel c is the root mean square of the weights that write it,

    s_c = √( Σ_k Σ_i w_k[i, c]² / Σ_k n_k )

over the producers k of its group, n_k weights each to a channel: groups of different fan-in
compare. The smallest go. A channel that goes takes its biases and norm scales along, for otherwise
it would be a constant and no zero.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from bap_jax.pruning.filters import leaf_paths
from bap_jax.types import Array, ChannelGroup, Params, PyTree, UserError, group_sizes


def channel_scores(params: Params, group: ChannelGroup) -> Array:
    """`(channel,)` float32: root mean square of the weights that write each channel.

    Args:
      params: the parameters, masked where some weights are gone.
      group: which channels.

    Raises:
      UserError: the group does not fit the parameters.
    """
    leaves = _leaves(params)
    group_sizes([group], leaves)
    return _scores(leaves, group)


def channel_masks(
    params: Params, groups: Sequence[ChannelGroup], kept: Sequence[int | Array] | Array
) -> PyTree:
    """Masks that keep the best channels of each group.

    Of equal scores the channel of lower index is kept. Consumers get no mask: what they multiply is
    0 already.

    Args:
      params: the parameters, masked where some weights are gone.
      groups: which channels go together.
      kept: `(group,)` how many channels to keep, int32; may be traced.

    Returns:
      A tree like `params`: uint8 masks of the leaves' shapes, 0 in dead channels, for producers and
      vectors; None for the others.

    Raises:
      UserError: a group does not fit the parameters, `kept` is not one number for each group, or,
        where it is not traced, a number is not between 0 and the group's channels.
    """
    leaves = _leaves(params)
    sizes = group_sizes(groups, leaves)
    _check_kept(groups, sizes, kept)
    masks = dict.fromkeys(leaves)
    for group, count in zip(groups, kept, strict=True):
        order = jnp.argsort(-_scores(leaves, group), stable=True)
        ranks = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
        stays = (ranks < count).astype(jnp.uint8)
        for path in (*group.producers, *group.vectors):
            masks[path] = jnp.broadcast_to(stays, leaves[path].shape)
    return jax.tree.unflatten(jax.tree.structure(params), list(masks.values()))


def _scores(leaves, group):
    kernels = [leaves[path] for path in group.producers]
    kernels = [kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32) for kernel in kernels]
    total = sum(jnp.square(kernel).sum(0) for kernel in kernels)
    return jnp.sqrt(total / sum(len(kernel) for kernel in kernels))


def _leaves(params):
    return dict(zip(leaf_paths(params), jax.tree.leaves(params), strict=True))


def _check_kept(groups, sizes, kept):
    if len(kept) != len(groups):
        raise UserError(
            f"kept must hold one number of channels for each of {len(groups)} groups; "
            f"got {len(kept)}. Write kept=[{', '.join(map(str, sizes))}] to keep all."
        )
    for group, size, count in zip(groups, sizes, kept, strict=True):
        if not isinstance(count, jax.core.Tracer) and count not in range(size + 1):
            raise UserError(
                f"group {group.name!r} has {size} channels, of which {count} cannot be kept; "
                f"write a whole number from 0 to {size}."
            )
