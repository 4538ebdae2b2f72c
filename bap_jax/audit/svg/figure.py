"""What a figure consists of. Templates lay it out: `templates/parts.html`."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

NOTHING = Markup("")


class Row(NamedTuple):
    """One row of a figure: a name, a strip of drawing, and the numbers in words.

    Attributes:
      label: the name; it may wrap, and is shown literally.
      strip: the drawing, as wide as there is room; empty for a row of words alone.
      value: the numbers.
    """

    label: str
    strip: Markup = NOTHING
    value: str = ""


class Key(NamedTuple):
    """What a mark means: a small drawing and the words for it."""

    sample: Markup
    words: str


class Label(NamedTuple):
    """Words beside a drawing, `top` pixels below its upper edge."""

    top: float
    name: str
    value: str
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Numbers in rows; the first cell of each row names it.

    Attributes:
      caption: what the table holds.
      columns: the heads.
      rows: texts, as many in each row as there are columns.
      words: columns (by number) of words rather than numbers, aligned to the left.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: frozenset[int] = frozenset()

    kind = "table"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing, or rows of drawings, with the words and the table that say the same.

    Attributes:
      name: of the element; different for every figure of a page.
      title: shown above.
      alt: what the figure shows, in words, for who cannot see it.
      caption: how to read it, shown below the title.
      key: what its marks mean.
      rows, scale: a figure of rows, and the axis under them.
      drawing, labels: a figure in one piece, and names placed at its right.
      table: the numbers behind it.
    """

    name: str
    title: str
    alt: str
    table: Table
    caption: str = ""
    key: Sequence[Key] = ()
    rows: Sequence[Row] = ()
    scale: Markup = NOTHING
    drawing: Markup = NOTHING
    labels: Sequence[Label] = ()

    kind = "figure"

    @property
    def longest_name(self) -> int:
        """Characters of the longest name of a row that has a drawing; 4 at least."""
        return max([4, *(len(row.label) for row in self.rows if row.strip)])

    @property
    def longest_value(self) -> int:
        """Characters of the longest numbers of a row."""
        return max([4, *(len(row.value) for row in self.rows)])
