"""Names of groups and counts as terminals, figures and tables show them, on one line."""

import re
import unicodedata

MINUS = "\N{MINUS SIGN}"

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


def clipped(name: str, width: int) -> str:
    """A visible name of at most `width` characters, cut in the middle.

    Example:
      >>> clipped("a very long name", 10)
      'a very…ame'
    """
    name = visible(name)
    if len(name) <= width:
        return name
    tail = (width - 1) // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def count(number: int, noun: str = "", plural: str = "") -> str:
    """A whole number with thousands separated, and its noun: "1 sample", "2,500 samples"."""
    text = f"{number:,}".replace("-", MINUS)
    if not noun:
        return text
    return f"{text} {noun if number == 1 else plural or noun + 's'}"


def columns(text: str) -> int:
    """The number of columns that a text takes in a terminal.

    Example:
      >>> columns("abc"), columns("日本"), columns("e\N{COMBINING ACUTE ACCENT}")
      (3, 4, 1)
    """
    return sum(map(_columns, text))


def padded(text: str, width: int) -> str:
    """A text with blanks at its end, so that it takes `width` columns in a terminal.

    Example:
      >>> padded("日本", 6)
      '日本  '
    """
    return text + " " * (width - columns(text))


def _columns(character):
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
