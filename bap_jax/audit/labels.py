"""What groups are called in sentences, tables and figures."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from bap_jax._tables.shown import visible

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit


def namer(audit: "Audit") -> Callable[[Any], str]:
    """A function that gives the name of a group of an audit, assessed or not; see `namer_of`."""
    return namer_of((*audit.groups, *audit.not_assessed))


def namer_of(groups: Iterable[Any]) -> Callable[[Any], str]:
    """A function that gives a group's name, with its attribute if there are several: "race=Black".

    Args:
      groups: those that are to be told apart, with `attribute` and `name`.
    """
    several = len({group.attribute for group in groups}) > 1

    def name(group) -> str:
        text = f"{group.attribute}={group.name}" if several else group.name
        return visible(text)

    return name
