"""Numbers that are not finite, and whose they are."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.training.state import StepMetrics
from bap_jax.types import PyTree

Names = Sequence[str] | Mapping[str, Sequence[str]]


def in_metrics(metrics: StepMetrics, names: Names = ()) -> str:
    """What is not finite among a step's numbers on the host; empty if all are.

    Args:
      metrics: of one step.
      names: one name a constraint; of several sets, a dict by name.
    """
    # From cause to effect: a group's proxy spoils the Lagrangian, and that the multipliers.
    for quantity in ("proxy", "violation", "multipliers"):
        sets = getattr(metrics, quantity)
        masks = getattr(metrics, f"{quantity}_mask", None)
        for key, values in sets.items() if isinstance(sets, Mapping) else [(None, sets)]:
            seen = True if masks is None else masks if key is None else masks[key]
            bad = ~np.isfinite(values) & seen
            if bad.any():
                which = int(np.argmax(bad))
                label = _label(names if key is None else names.get(key, ()), which)
                return f"{quantity} of {label} is {np.asarray(values)[which]}"
    for quantity in ("loss", "lagrangian"):
        value = getattr(metrics, quantity)
        if not np.isfinite(value):
            return f"{quantity} is {value}"
    return ""


def in_tree(tree: PyTree) -> str:
    """Path of the first leaf that holds NaN or infinity; empty if none does."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    if bool(_all_finite([leaf for _, leaf in leaves])):
        return ""
    for path, leaf in leaves:
        if not bool(jnp.isfinite(leaf).all()):
            return jax.tree_util.keystr(path, simple=True, separator="/")
    return ""


@jax.jit
def _all_finite(leaves):
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def _label(names, which):
    return f"group {names[which]!r}" if which < len(names) else f"constraint {which}"
