"""What an updater carries from step to step, and how to find it in an optimiser's state."""

from typing import Any, NamedTuple

import jax

from bap_jax.types import Array, PyTree, UserError


class SparseState(NamedTuple):
    """What an updater carries from step to step.

    Attributes:
      masks: uint8 for each weight of a pruned leaf, packed where the updater says so; None for
        other leaves.
      inner_state: of the wrapped optimiser.
      target_sparsities: a float for each pruned leaf, or one for all.
      count: `()` int32 steps done.
    """

    masks: PyTree
    inner_state: Any = None
    target_sparsities: PyTree = None
    count: Array | None = None


def sparse_states(opt_state: PyTree) -> list[SparseState]:
    """Every `SparseState` in an optimiser's state (`chain`, `multi_transform`, `MultiSteps` …).

    A state of another library counts if it has the same attributes.

    Raises:
      UserError: there is none.
    """
    found = [
        node
        for node in jax.tree.leaves(opt_state, is_leaf=_is_sparse_state)
        if _is_sparse_state(node)
    ]
    if not found:
        raise UserError(
            "this optimiser state holds no SparseState; give the state of an optimiser made by "
            f"updater.wrap_optax(...), got {type(opt_state).__name__}."
        )
    return found


def _is_sparse_state(node):
    return all(hasattr(node, field) for field in SparseState._fields)
