"""Numbers that are not finite: which they are, and the error of a run that met one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.training.state import StepMetrics, TrainState
from bap_jax.trees import leaves_by_path
from bap_jax.types import Array, PyTree

Names = Sequence[str] | Mapping[str, Sequence[str]]


class EpochEnd(NamedTuple):
    """The end of an epoch.

    Attributes:
      epoch: its number; −1 is the start of the run.
      state: after it; on the device where `run_epochs` yields it, on the host in `DivergedError`.
    """

    epoch: int
    state: TrainState


class DivergedError(FloatingPointError):
    """Training met a number that is not finite; the text names step, epoch, quantity and group.

    Attributes:
      last_good: the end of the last epoch without such a number; its state is on the host.
    """

    def __init__(self, message: str, last_good: EpochEnd):
        super().__init__(message)
        self.last_good = last_good


def diverged(what: str, step: int | None, epoch: int, last_good: EpochEnd) -> DivergedError:
    """The error of a run.

    Args:
      what: which number is not finite.
      step: where it was met; None: at the end of the epoch.
      epoch: of that step.
      last_good: where the last epoch without such a number ended.
    """
    where = f"the end of epoch {epoch}" if step is None else f"step {step} (epoch {epoch})"
    return DivergedError(
        f"{what} at {where}. Lower optimizer.learning_rate, or dual.learning_rate if "
        "dual.rule reads it; constraint.overall_term='full' is a known cause.",
        last_good,
    )


def in_metrics(metrics: StepMetrics, names: Names = (), group_names: Sequence[str] = ()) -> str:
    """What is not finite among the numbers of one step; empty if all are finite.

    Args:
      metrics: of one step, on the host.
      names: one name per constraint; for several sets, a dict by name.
      group_names: one name per group.
    """
    # From cause to effect: a group's proxy spoils the Lagrangian, and that the multipliers.
    for quantity in ("proxy", "violation", "multipliers"):
        sets, masks = getattr(metrics, quantity), getattr(metrics, f"{quantity}_mask", True)
        for key in sets if isinstance(sets, Mapping) else [None]:
            values, seen = np.asarray(_of_set(sets, key)), _of_set(masks, key)
            bad = ~np.isfinite(values) & seen
            everywhere = bad.sum() > 1 and (bad == seen).all()
            if everywhere and metrics.nonfinite_group >= 0:
                return _nonfinite_group(metrics, group_names)
            if bad.any():
                index = int(np.argmax(bad))
                label = _label(_of_set(names, key) or (), index, "constraint")
                whose = "every observed group" if everywhere else label
                return f"{quantity} of {whose} is {values[index]}"
    if metrics.nonfinite_group >= 0:  # without constraints
        return _nonfinite_group(metrics, group_names)
    for quantity in ("loss", "lagrangian"):
        value = getattr(metrics, quantity)
        if not np.isfinite(value):
            return f"{quantity} is {value}"
    return ""


class Bad(NamedTuple):
    """The first step of a block that holds a number that is not finite.

    Attributes:
      step: index of that step in the block.
      text: what it is, see `in_metrics`.
    """

    step: int
    text: str


def in_block(
    metrics: StepMetrics, member: int, names: Names = (), group_names: Sequence[str] = ()
) -> Bad | None:
    """The first step in which a number of one member is not finite; None if all are finite.

    Args:
      metrics: `(member, step, ...)` on the host.
      member: index of the member.
      names, group_names: see `in_metrics`.
    """
    own = jax.tree.map(lambda leaf: leaf[member], metrics)
    if _block_is_finite(own):
        return None
    for step in range(len(own.loss)):
        text = in_metrics(jax.tree.map(lambda leaf, i=step: leaf[i], own), names, group_names)
        if text:
            return Bad(step, text)
    return None


def _block_is_finite(metrics):
    whole = jax.tree.leaves((metrics.loss, metrics.lagrangian, metrics.multipliers))
    fine = all(np.isfinite(leaf).all() for leaf in whole) and (metrics.nonfinite_group < 0).all()
    for quantity in ("violation", "proxy"):
        pair = getattr(metrics, quantity), getattr(metrics, f"{quantity}_mask")
        seen = jax.tree.map(lambda value, mask: (np.isfinite(value) | ~mask).all(), *pair)
        fine = fine and all(jax.tree.leaves(seen))
    return fine


def _of_set(sets, key):
    """The entry of one named set; what has no names, as it is."""
    return sets.get(key) if isinstance(sets, Mapping) else sets


def _nonfinite_group(metrics, group_names):
    label = _label(group_names, int(metrics.nonfinite_group), "group")
    return f"loss of a sample of {label} is not finite and the mean {metrics.loss}"


def in_tree(tree: PyTree) -> str:
    """Path of the first leaf that holds NaN or infinity; empty if none does."""
    if bool(jax.jit(all_finite)(tree)):
        return ""
    for path, leaf in leaves_by_path(tree).items():
        if not bool(jnp.isfinite(leaf).all()):
            return path
    return ""


def all_finite(tree: PyTree) -> Array:
    """`()` bool: whether no leaf holds NaN or infinity."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _label(names, index, noun):
    return f"group {names[index]!r}" if index < len(names) else f"{noun} {index}"
