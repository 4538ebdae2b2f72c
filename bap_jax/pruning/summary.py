"""Sparsity counted from masks, not from zeros that happen to be there."""

from typing import NamedTuple

import jax
import numpy as np

from bap_jax.errors import UserError
from bap_jax.pruning.masks import map_masks
from bap_jax.trees import leaves_by_path
from bap_jax.types import Params, PyTree


class Sparsity(NamedTuple):
    """How much of a network is removed.

    Attributes:
      prunable: fraction of weights removed, over the leaves that may be pruned.
      total: the same over all parameters.
    """

    prunable: float
    total: float


def sparsity(params: Params, masks: PyTree) -> Sparsity:
    """Fractions of weights that `masks` remove.

    Raises:
      UserError: a mask is packed.

    Example:
      >>> params = {"kernel": np.ones((2, 2)), "bias": np.ones(4)}
      >>> sparsity(params, {"kernel": np.array([[1, 0], [1, 1]]), "bias": None})
      Sparsity(prunable=0.25, total=0.125)
    """
    map_masks(_check_shape, masks, params, otherwise=lambda leaf: None)
    masks = jax.tree.leaves(masks)
    removed = sum(int(np.size(m)) - int(np.count_nonzero(m)) for m in masks)
    prunable = sum(int(np.size(m)) for m in masks)
    total = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))
    return Sparsity(removed / max(prunable, 1), removed / max(total, 1))


def _check_shape(mask, leaf):
    if np.shape(mask) != np.shape(leaf):
        raise UserError(
            "packed masks cannot be counted; use updater.unpacked_masks(state, params)."
        )


def leaf_sparsity(masks: PyTree) -> dict[str, float]:
    """Fraction removed of each leaf that has a mask, by path.

    Example:
      >>> leaf_sparsity({"kernel": np.array([[1, 0], [1, 1]]), "bias": None})
      {'kernel': 0.25}
    """
    leaves = leaves_by_path(masks).items()
    removed = {path: 1 - np.count_nonzero(mask) / max(np.size(mask), 1) for path, mask in leaves}
    return {path: float(share) for path, share in removed.items()}
