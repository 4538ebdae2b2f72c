"""Sparsity as the masks have it, not as zeros that happen to be there."""

from typing import NamedTuple

import jax
import numpy as np

from bap_jax.types import Params, PyTree


class Sparsity(NamedTuple):
    """How much of a network is gone.

    Attributes:
      prunable: fraction of weights removed, over the leaves that may be pruned.
      total: the same over all parameters.
    """

    prunable: float
    total: float


def sparsity(params: Params, masks: PyTree) -> Sparsity:
    """Fractions of weights that `masks` remove."""
    masks = jax.tree.leaves(masks)
    removed = sum(int(np.size(m)) - int(np.count_nonzero(m)) for m in masks)
    prunable = sum(int(np.size(m)) for m in masks)
    total = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    return Sparsity(removed / max(prunable, 1), removed / max(total, 1))
