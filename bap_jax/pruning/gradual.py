"""Gradual magnitude pruning, layer by layer (GMP; paper section 5, method.md 2).

At the start of each pruning epoch every layer loses its smallest weights until the schedule's
share is gone. Masks are formed from the already masked weights, so nothing grows back.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bap_jax.pruning import schedules
from bap_jax.pruning.masks import dense_masks, magnitude_mask
from bap_jax.types import Array, Params, PyTree, UserError


class Pruner(NamedTuple):
    """Pure functions that make and change masks.

    Attributes:
      init: `params -> masks`, everything kept.
      update: `(masks, params, epoch) -> masks`, to be called once at the start of each epoch.
      last_epoch: the last epoch that changes a mask; `-1` where none does.
    """

    init: Callable[[Params], PyTree]
    update: Callable[[PyTree, Params, Array], PyTree]
    last_epoch: int


def no_pruning() -> Pruner:
    """Keeps every weight and has no masks."""

    def init(params):
        return jax.tree.map(lambda leaf: None, params)

    return Pruner(init, lambda masks, params, epoch: masks, -1)


def gradual_magnitude(
    params: Params, prunable: PyTree, schedule: schedules.GradualSchedule
) -> Pruner:
    """Layer-wise magnitude pruning on a schedule.

    Args:
      params: only shapes are read.
      prunable: a bool for each leaf.
      schedule: sparsity by epoch; the same in every layer.

    Raises:
      UserError: the schedule is not valid, or no leaf is prunable.
    """
    schedules.check_schedule(schedule)
    leaves = [leaf for leaf, chosen in _zip_leaves(params, prunable) if chosen]
    if not leaves:
        raise UserError("no parameter is prunable; give `prunable` a True leaf.")
    counts = jnp.asarray(schedules.pruned_counts(schedule, [leaf.size for leaf in leaves]))

    def update(masks, params, epoch):
        pruned = counts[jnp.clip(epoch, 0, schedule.last_epoch)]
        structure = jax.tree.structure(masks)
        old = jax.tree.leaves(masks)
        weights = [leaf for leaf, chosen in _zip_leaves(params, prunable) if chosen]
        new = [magnitude_mask(w, m, k) for w, m, k in zip(weights, old, pruned, strict=True)]
        return jax.tree.unflatten(structure, new)

    return Pruner(lambda params: dense_masks(params, prunable), update, schedule.last_epoch)


def _zip_leaves(params, prunable):
    return zip(jax.tree.leaves(params), jax.tree.leaves(prunable), strict=True)
