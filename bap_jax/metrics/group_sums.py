"""Sums and counts for each group.

A step returns sums and counts, which are divided once, at the end, so that ragged batches, several
devices and several steps add up exactly. A_g and ℓ_g of docs/method.md, equation (1), are
`group_means` of what a `Criterion` says of each sample.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.types import Array


class GroupSums(NamedTuple):
    """Sums and counts, which are divided once.

    Attributes:
      total: `(group,)` weighted sum of the values of each group.
      count: `(group,)` sum of the weights of each group.
    """

    total: Array
    count: Array


def group_sums(values: Array, group_ids: Array, weight: Array, num_groups: int) -> GroupSums:
    """Sums and counts for each group, vmapped over attributes.

    A sample counts once for every attribute. Work and memory grow with batch + groups, never with
    their product.

    Args:
      values: `(batch,)`.
      group_ids: `(batch, attribute)` int; ids outside `[0, num_groups)` are left out.
      weight: `(batch,)`, 0 for padding.
      num_groups: length of the result.

    Example:
      >>> values, ids = jnp.array([1.0, 0.0, 1.0]), jnp.array([[0], [0], [1]])
      >>> group_means(group_sums(values, ids, jnp.ones(3), num_groups=3)).tolist()
      [0.5, 1.0, 0.0]
    """

    def one_attribute(ids):
        total = jax.ops.segment_sum(values * weight, ids, num_groups)
        return GroupSums(total, jax.ops.segment_sum(weight, ids, num_groups))

    return jax.tree.map(lambda x: x.sum(0), jax.vmap(one_attribute, in_axes=1)(group_ids))


def group_means(sums: GroupSums) -> Array:
    """`(group,)` means; 0 for a group without samples."""
    return sums.total / jnp.where(sums.count > 0, sums.count, 1)


def weighted_mean(values: Array, weight: Array) -> Array:
    """Mean of `values` `(batch,)` under `weight` `(batch,)`; 0 where all weights are 0."""
    total = weight.sum()
    return (values * weight).sum() / jnp.where(total > 0, total, 1)
