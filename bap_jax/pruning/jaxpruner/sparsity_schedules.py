"""jaxpruner's `sparsity_schedules`: updates at multiples of the frequency, see `aligned`."""

import dataclasses

from bap_jax.pruning import sparsity_schedules as _engine
from bap_jax.pruning.sparsity_schedules import NoUpdateSchedule, OneShotSchedule

__all__ = ["NoUpdateSchedule", "OneShotSchedule", "PeriodicSchedule", "PolynomialSchedule"]


@dataclasses.dataclass(frozen=True)
class PeriodicSchedule(_engine.PeriodicSchedule):
    """Updates at the multiples of `update_freq` that lie between start and end, both included."""

    aligned: bool = dataclasses.field(default=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class PolynomialSchedule(_engine.PolynomialSchedule, PeriodicSchedule):
    """The same updates; sparsity rises as a polynomial from start to end."""

    aligned: bool = dataclasses.field(default=False, kw_only=True)
