"""Which groups a figure shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from bap_jax.audit.numbers import count

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit, GroupResult

ALL_SHOWN_UP_TO = 60
SHOWN_AT_EACH_END = 20


class Choice(NamedTuple):
    """The groups of a figure: all, or the worst and the best and how many lie between them."""

    worst: "Sequence[GroupResult]"
    best: "Sequence[GroupResult]"
    between: int

    @property
    def shown(self) -> "list[GroupResult]":
        """All groups that are drawn, worst first."""
        return [*self.worst, *self.best]

    @property
    def words(self) -> str:
        """Which they are: "All 10 groups", or "The worst 20 and the best 20 of 100 groups"."""
        number = len(self.worst) + len(self.best) + self.between
        if not self.between:
            return f"All {count(number, 'group')}"
        return (
            f"The worst {len(self.worst)} and the best {len(self.best)} of {count(number)} groups"
        )


def choose(audit: "Audit") -> Choice:
    """All groups up to 60 of them, beyond that the worst and the best 20 (worst first)."""
    groups = audit.groups
    if len(groups) <= ALL_SHOWN_UP_TO:
        return Choice(groups, (), 0)
    worst, best = groups[:SHOWN_AT_EACH_END], groups[-SHOWN_AT_EACH_END:]
    return Choice(worst, best, len(groups) - 2 * SHOWN_AT_EACH_END)
