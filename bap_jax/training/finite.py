"""Numbers that are not finite, and whose they are."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.training.state import StepMetrics
from bap_jax.types import PyTree

_EVERY = "every observed group"
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
        sets = getattr(metrics, quantity)
        masks = getattr(metrics, f"{quantity}_mask", None)
        for key, values in sets.items() if isinstance(sets, Mapping) else [(None, sets)]:
            seen = np.ones(np.shape(values), bool) if masks is None else masks
            seen = seen[key] if isinstance(seen, Mapping) else seen
            of_set = names.get(key, ()) if isinstance(names, Mapping) else names
            found = _whose(np.asarray(values), seen, () if key and of_set is names else of_set)
            if found and quantity == "proxy" and metrics.culprit >= 0 and _EVERY in found:
                return _culprit(metrics, group_names)
            if found:
                return f"{quantity} of {found}"
    if metrics.culprit >= 0:  # without constraints
        return _culprit(metrics, group_names)
    for quantity in ("loss", "lagrangian"):
        value = getattr(metrics, quantity)
        if not np.isfinite(value):
            return f"{quantity} is {value}"
    return ""


def _culprit(metrics, group_names):
    label = _label(group_names, int(metrics.culprit), "group")
    return f"loss of a sample of {label} is not finite and the mean {metrics.loss}"


def _whose(values, seen, names):
    """Which constraint has a value that is not finite, and that value; empty if none has."""
    bad = ~np.isfinite(values) & seen
    if not bad.any():
        return ""
    which = int(np.argmax(bad))
    if bad.sum() > 1 and (bad == seen).all():
        return f"{_EVERY} is {values[which]}"
    return f"{_label(names, which, 'constraint')} is {values[which]}"


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
