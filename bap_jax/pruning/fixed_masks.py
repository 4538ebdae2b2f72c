"""Masks that were made elsewhere, for instance by `snip`, and never change."""

import dataclasses
from typing import Any, ClassVar

from bap_jax.errors import UserError
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.declarations import UpdaterOptions
from bap_jax.pruning.mask_calculator import MASK_DTYPE
from bap_jax.pruning.masks import apply_masks, map_masks
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.trees import leaves_by_path
from bap_jax.types import Params, PyTree


@dataclasses.dataclass(eq=False, kw_only=True)
class FixedMasks(BaseUpdater):
    """Keeps given masks.

    Attributes:
      masks: 0 or 1 for each weight of a pruned leaf, None for other leaves.
    """

    needs_gradients: ClassVar[bool] = False
    default_schedule: ClassVar[str] = "none"
    takes_sparsity_type: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    masks: PyTree

    @classmethod
    def constructor_arguments(cls, options: UpdaterOptions) -> dict[str, Any]:
        """The masks of `options`, and what every updater takes."""
        return {
            "masks": options.masks,
            "scheduler": options.scheduler,
            "counting": options.counting,
            "rng_seed": options.rng_seed,
        }

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """The given masks.

        Raises:
          UserError: their structure or shapes differ from those of the parameters.
        """
        del target_sparsities
        if _paths(self.masks) != _paths(params):
            raise UserError("masks must have the structure of the parameters, None where dense.")
        return map_masks(_check, self.masks, params, otherwise=lambda param: None)

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """The masks as they are."""
        del grads
        return self.unpacked_masks(sparse_state, params)

    def find_masks(self) -> PyTree:
        """The given masks."""
        return self.masks

    def take_masks(self, masks: PyTree) -> None:
        """Replaces the given masks."""
        self.masks = masks

    def exact_counts(self, params: Params) -> None:
        """None: nothing is counted."""
        del params

    def instant_sparsify(
        self, params: Params, grads: PyTree = None, importance: PyTree = None, **extra: Any
    ) -> tuple[Params, PyTree]:
        """Parameters times masks, and the masks."""
        del grads, importance, extra
        masks = self.get_initial_masks(params, None)
        return apply_masks(params, masks), self._pack(masks)


def _check(mask, param):
    if mask.shape != param.shape:
        raise UserError(
            f"a mask of shape {mask.shape} does not fit weights of shape {param.shape}."
        )
    return (mask != 0).astype(MASK_DTYPE)


def _paths(tree):
    return list(leaves_by_path(tree, is_leaf=lambda node: node is None))
