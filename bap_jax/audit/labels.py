"""What groups are called in sentences, tables and figures."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

# A terminal obeys these: a name could clear the screen, write over the verdict, or turn the
# direction of the text around it. Half a character, as JSON can hold, is no UTF-8.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(name: str) -> str:
    r"""A name with control characters written out.

    Example:
      >>> print(visible("\x1b[31mred\tapple"))
      \x1b[31mred\tapple
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), name)


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
