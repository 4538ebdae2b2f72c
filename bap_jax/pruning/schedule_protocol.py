"""What an updater needs from its schedule, and what else it uses if the schedule has it."""

from typing import Any, Protocol

import numpy as np

from bap_jax.types import Array, PyTree


class Schedule(Protocol):
    """What an updater needs from its schedule.

    Subclasses of `NoUpdateSchedule` have everything; a class of your own needs these three.
    """

    @property
    def last_update_step(self) -> int | None:
        """The last step at which masks change; −1: they never do, None: there is no last."""
        ...

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Array | int) -> PyTree:
        """The sparsity of each tensor at `step`, given its target."""
        ...

    def is_mask_update_iter(self, step: Array | int) -> Array | bool:
        """Whether masks change at `step`."""
        ...


def never_falls(schedule: Schedule) -> bool:
    """Whether a schedule's sparsity is known never to fall."""
    return getattr(schedule, "never_falls", lambda: False)()


def exact_sparsities(schedule: Schedule, target: float) -> np.ndarray | None:
    """`(update,)` sparsities in double precision, the target last; None where unknown."""
    return getattr(schedule, "tabulate", lambda target: None)(target)


def update_index(schedule: Any, step: Array | int) -> Array | int:
    """The place in `exact_sparsities`, of a schedule that has these, of the sparsity at `step`."""
    return schedule.update_index(step)
