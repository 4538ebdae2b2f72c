"""What groups are called in sentences, tables and figures."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit, GroupResult, Skipped


def namer(audit: "Audit") -> "Callable[[GroupResult | Skipped], str]":
    """A function that gives a group's name, with its attribute if there are several: "race=Black".

    Args:
      audit: with the groups that are to be told apart.
    """
    attributes = {group.attribute for group in (*audit.groups, *audit.not_assessed)}
    several = len(attributes) > 1

    def name(group) -> str:
        return f"{group.attribute}={group.name}" if several else group.name

    return name
