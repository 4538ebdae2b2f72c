"""What an updater carries from step to step, and where it is in an optimiser's state."""

from typing import Any, NamedTuple

import jax

from bap_jax.errors import UserError
from bap_jax.trees import is_box, unboxed
from bap_jax.types import PyTree


class SparseState(NamedTuple):
    """What an updater carries from step to step.

    Attributes:
      masks: uint8 for each weight of a pruned leaf, packed if the updater packs them; None for
        other leaves.
      inner_state: state of the wrapped optimiser.
      target_sparsities: a float for each pruned leaf, or one for all.
      count: `()` int32 number of steps done.
    """

    masks: PyTree
    inner_state: Any = None
    target_sparsities: PyTree = None
    count: Any = None


def sparse_states(opt_state: PyTree) -> list[SparseState]:
    """Every `SparseState` in an optimiser's state (`chain`, `multi_transform`, `MultiSteps` …).

    A state of another library counts if it has the same attributes.

    Raises:
      UserError: there is none.
    """
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_sparse_state)
    states = [_without_boxes(node) for node in nodes if _is_sparse_state(node)]
    if not states:
        raise UserError(
            "this optimiser state holds no SparseState; pass the state of an optimiser made by "
            f"updater.wrap_optax(...), got {type(opt_state).__name__}."
        )
    return states


def _is_sparse_state(node):
    return all(hasattr(node, field) for field in SparseState._fields)


def _without_boxes(state):
    """The state as the updater made it: `nnx.Optimizer` keeps every array in a variable."""
    if not is_box(state.count):
        return state
    names = "masks", "target_sparsities", "count"
    return state._replace(**{name: unboxed(getattr(state, name)) for name in names})
