"""An updater that prunes nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax

from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.sparse_state import SparseState
from bap_jax.types import Params, PyTree


@dataclasses.dataclass(eq=False)
class NoPruning(BaseUpdater):
    """Keeps the weights dense."""

    needs_gradients: ClassVar[bool] = False
    default_schedule: ClassVar[str] = "none"
    has_sparsity: ClassVar[bool] = False
    never_regrows: ClassVar[bool] = True
    keeps_inner_state: ClassVar[bool] = True
    supports_arrays: ClassVar[bool] = True

    sparsity_distribution_fn: Callable[[Params], PyTree] | None = None

    def get_initial_masks(self, params: Params, target_sparsities: PyTree) -> PyTree:
        """No masks."""
        del target_sparsities
        return jax.tree.map(lambda leaf: None, params)

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state as it is."""
        del params, grads
        return sparse_state

    def instant_sparsify(
        self, params: Params, grads: PyTree = None, importance: PyTree = None, **extra: Any
    ) -> tuple[Params, PyTree]:
        """The parameters as they are, and no masks."""
        del grads, importance, extra
        return params, self.get_initial_masks(params, None)
