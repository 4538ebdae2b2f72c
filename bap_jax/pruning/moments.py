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
from bap_jax.pruning.masks import map_masks
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


def _is_masked(node):
    return isinstance(node, optax.MaskedNode)
