"""What happens to an optimiser's moments where weights are removed or come back.

Rules, by name (`BaseUpdater.pruned_moments`):

    restart   a weight that comes back starts with fresh moments; moments of removed weights are not
              touched, and have no effect (the default)
    zero      moments of removed weights are fresh at every step
    keep      nothing happens, as in jaxpruner's pruners
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.pruning.masks import is_absent, map_masks
from bap_jax.types import Params, PyTree

RULES = ("restart", "zero", "keep")


def check_moments_rule(rule: str) -> None:
    """Raises an error for an unknown rule.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if rule not in RULES:
        raise UserError(f"unknown pruned_moments {rule!r}; known: {', '.join(RULES)}.")


def refresh(
    init: Callable[[Params], PyTree], state: PyTree, where: PyTree, params: Params
) -> PyTree:
    """The state with the moments of some weights as `init` makes them.

    A part of the state that has the structure of the parameters holds moments. Of its leaves those
    count that have one entry for each weight, or several in a leading axis, as L-BFGS has; others
    do not belong to single weights: rows and columns of Adafactor, or what is masked out, as in
    `optax.multi_transform`.

    Args:
      init: the optimiser's `init`.
      state: its state.
      where: bool for each weight of a pruned leaf, None for other leaves.
      params: the parameters.
    """
    structure = jax.tree.structure(params)
    shapes = {jnp.shape(leaf) for leaf in jax.tree.leaves(params)}
    is_single = jax.tree_util.treedef_is_leaf(structure)

    def is_moments(node):
        if jax.tree.structure(node, is_leaf=_is_masked) != structure:
            return False
        return not is_single or jnp.shape(node) in shapes

    def on_leaf(flags, old, fresh):
        shape, own = jnp.shape(flags), None if _is_masked(old) else jnp.shape(old)
        if own is None or shape not in (own, own[1:]):
            return old
        return jnp.where(flags, fresh, old)

    def on_part(old, fresh):
        if not is_moments(old) or not jax.tree.leaves(old):
            return old
        return map_masks(on_leaf, where, old, fresh)

    return jax.tree.map(on_part, state, init(params), is_leaf=is_moments)


def zeroed(state: PyTree, where: PyTree) -> PyTree:
    """The state with 0 for the moments of some weights, for callers that have no `init`.

    Args:
      state: an optimiser's state; moments are found as in `refresh`.
      where: flags for each weight of a pruned leaf, None for other leaves.
    """
    flags, structure = jax.tree.flatten(where, is_leaf=is_absent)

    def leaves_of(node):
        if jax.tree.structure(node, is_leaf=_is_masked) != structure:
            return None
        return structure.flatten_up_to(node)

    def is_moments(node):
        leaves = leaves_of(node)
        if leaves is None or not any(hasattr(leaf, "shape") for leaf in leaves):
            return False
        pairs = zip(flags, leaves, strict=True)
        return all(is_absent(f) or _is_masked(x) or f.shape == jnp.shape(x) for f, x in pairs)

    def on_part(node):
        return map_masks(_zero_where, where, node) if is_moments(node) else node

    return jax.tree.map(on_part, state, is_leaf=is_moments)


def came_back(before: PyTree, after: PyTree) -> PyTree:
    """Which weights are removed by the first masks and not by the second."""
    return map_masks(
        lambda old, new: (old == 0) & (new != 0), before, after, otherwise=lambda new: None
    )


def _zero_where(flags, leaf):
    return leaf if _is_masked(leaf) else jnp.where(flags, 0, leaf).astype(jnp.asarray(leaf).dtype)


def _is_masked(node):
    return isinstance(node, optax.MaskedNode)
