"""Structured pruning: whole channels go, in groups of arrays that share them.

The score of a channel c is the root mean square of the weights that write it,

    s_c = √( Σ_k Σ_i w_k[i, c]² / Σ_k n_k )

over the producers k of its group, where producer k has n_k weights for each channel, so groups of
different fan-in compare. The smallest go. A removed channel takes its biases and norm scales along;
otherwise it would be a constant and not zero.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from bap_jax.errors import UserError
from bap_jax.trees import leaves_by_path
from bap_jax.types import Array, ChannelGroup, Params, PyTree, group_sizes


def channel_masks(
    params: Params, groups: Sequence[ChannelGroup], kept: Sequence[int | Array] | Array
) -> PyTree:
    """Masks that keep the best channels of each group.

    Of equal scores the channel of lower index is kept. Consumers get no mask: what they multiply is
    0 already.

    Args:
      params: the parameters, masked where some weights are removed.
      groups: which channels go together.
      kept: `(group,)` how many channels to keep, int32; may be traced.

    Returns:
      A tree like `params`: uint8 masks of the leaves' shapes, 0 in removed channels, for producers
      and vectors; None for the others.

    Raises:
      UserError: a group does not fit the parameters, `kept` is not one number for each group, or,
        where it is not traced, a number is not between 0 and the group's channels.

    Example:
      >>> params = {"dense": {"kernel": jnp.array([[3.0, -1.0, 2.0]]), "bias": jnp.zeros(3)}}
      >>> group = ChannelGroup("hidden", ("dense/kernel",), vectors=("dense/bias",))
      >>> channel_masks(params, [group], [2])["dense"]["bias"].tolist()
      [1, 0, 1]
    """
    leaves = leaves_by_path(params)
    sizes = group_sizes(groups, leaves)
    _check_kept(groups, sizes, kept)
    masks: dict[str, Array | None] = dict.fromkeys(leaves)
    for group, count in zip(groups, kept, strict=True):
        order = jnp.argsort(-channel_scores(leaves, group), stable=True)
        ranks = jnp.zeros_like(order).at[order].set(jnp.arange(order.size))
        stays = (ranks < count).astype(jnp.uint8)
        for path in (*group.producers, *group.vectors):
            shape = leaves[path].shape
            others = [i for i in range(len(shape)) if i != group.axis_of(path, len(shape))]
            masks[path] = jnp.broadcast_to(jnp.expand_dims(stays, others), shape)
    return jax.tree.unflatten(jax.tree.structure(params), list(masks.values()))


def channel_scores(leaves: Mapping[str, Array], group: ChannelGroup) -> Array:
    """`(channel,)` float32: root mean square of the weights that write each channel.

    Args:
      leaves: parameters by path, masked where some weights are removed.
      group: channels that fit the parameters, see `bap_jax.types.group_sizes`.
    """
    kernels = [(path, jnp.asarray(leaves[path])) for path in group.producers]
    kernels = [jnp.moveaxis(k, group.axis_of(path, k.ndim), -1) for path, k in kernels]
    kernels = [kernel.reshape(-1, kernel.shape[-1]).astype(jnp.float32) for kernel in kernels]
    total = sum((jnp.square(kernel).sum(0) for kernel in kernels), jnp.float32(0))
    return jnp.sqrt(total / sum(len(kernel) for kernel in kernels))


def prunable_groups(
    groups: Sequence[ChannelGroup], params: Params, prunable: PyTree
) -> tuple[ChannelGroup, ...]:
    """The groups all of whose producers may be pruned.

    Args:
      groups: all groups of a network.
      params: its parameters; only paths are read.
      prunable: a bool for each leaf.

    Raises:
      UserError: there is none.
    """
    flags = zip(leaves_by_path(params), jax.tree.leaves(prunable), strict=True)
    allowed = {path for path, is_prunable in flags if is_prunable}
    suitable = tuple(group for group in groups if allowed.issuperset(group.producers))
    if not suitable:
        raise UserError(
            "no group of channels has only prunable producers; choose more by pruning.prunable."
        )
    return suitable


def _check_kept(groups, sizes, kept):
    if len(kept) != len(groups):
        raise UserError(
            f"kept must hold one number of channels for each of {len(groups)} groups; "
            f"got {len(kept)}. Write kept=[{', '.join(map(str, sizes))}] to keep all."
        )
    for group, size, count in zip(groups, sizes, kept, strict=True):
        if not isinstance(count, Tracer) and count not in range(size + 1):
            raise UserError(
                f"cannot keep {count} of the {size} channels of group {group.name!r}; "
                f"write a whole number from 0 to {size}."
            )
