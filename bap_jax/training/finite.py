"""Numbers that are not finite, and whose they are."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.training.state import StepMetrics
from bap_jax.types import PyTree

Names = Sequence[str] | Mapping[str, Sequence[str]]


def in_metrics(metrics: StepMetrics, names: Names = (), group_names: Sequence[str] = ()) -> str:
    """What is not finite among a step's numbers on the host; empty if all are.

    Args:
      metrics: of one step.
      names: one name a constraint; of several sets, a dict by name.
      group_names: one name a group.
    """
    # From cause to effect: a group's proxy spoils the Lagrangian, and that the multipliers.
    for quantity in ("proxy", "violation", "multipliers"):
        sets, masks = getattr(metrics, quantity), getattr(metrics, f"{quantity}_mask", True)
        for key in sets if isinstance(sets, Mapping) else [None]:
            values, seen = np.asarray(_of(sets, key)), _of(masks, key)
            bad = ~np.isfinite(values) & seen
            everywhere = bad.sum() > 1 and (bad == seen).all()
            if everywhere and metrics.culprit >= 0:
                return _culprit(metrics, group_names)
            if bad.any():
                which = int(np.argmax(bad))
                one = _label(_of(names, key) or (), which, "constraint")
                whose = "every observed group" if everywhere else one
                return f"{quantity} of {whose} is {values[which]}"
    if metrics.culprit >= 0:  # without constraints
        return _culprit(metrics, group_names)
    for quantity in ("loss", "lagrangian"):
        value = getattr(metrics, quantity)
        if not np.isfinite(value):
            return f"{quantity} is {value}"
    return ""


def _of(sets, key):
    """The entry of one named set; what has no names, as it is."""
    return sets.get(key) if isinstance(sets, Mapping) else sets


def _culprit(metrics, group_names):
    label = _label(group_names, int(metrics.culprit), "group")
    return f"loss of a sample of {label} is not finite and the mean {metrics.loss}"


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


def _label(names, which, kind):
    return f"group {names[which]!r}" if which < len(names) else f"{kind} {which}"
