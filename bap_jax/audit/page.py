"""A report as one page of HTML that needs nothing else: no script, no font, no other file.

A page is a title, a verdict to lead with, sections and where it all comes from. Sections hold
parts: paragraphs, facts, figures, tables and pictures. `templates/` lays them out.
"""

import dataclasses
import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from bap_jax.audit.provenance import versions as default_versions
from bap_jax.audit.svg.figure import Figure, Table
from bap_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Words; escaped where they are shown, like all others."""

    words: str
    kind = "paragraph"


@dataclasses.dataclass(frozen=True)
class Points:
    """A list of paragraphs, each with a few words in front that say what it is about."""

    items: Sequence[tuple[str, str]]
    kind = "points"


class Fact(NamedTuple):
    """A number with its name, and a remark in smaller type."""

    name: str
    value: str
    remark: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Numbers side by side."""

    items: Sequence[Fact]
    kind = "facts"


class Picture(NamedTuple):
    """One image: its bytes as a "data:" address, what it shows, and the words below it."""

    source: str
    alt: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Small images side by side.

    Raises:
      UserError: for an image that is not within the page itself.
    """

    items: Sequence[Picture]
    kind = "pictures"

    def __post_init__(self):
        for picture in self.items:
            if not picture.source.startswith("data:image/"):
                raise UserError(
                    "a report holds its images itself: expected a source that starts with "
                    f"'data:image/', got {picture.source[:40]!r}"
                )


Part = Paragraph | Points | Facts | Figure | Table | Pictures


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a page with a heading.

    Attributes:
      name: of its element, for links; different for all sections of a page.
      title: the heading.
      parts: what it holds.
      sections: sections within it.
      closed: a summary to click instead of the parts themselves; "" shows them at once.
    """

    name: str
    title: str
    parts: Sequence[Part] = ()
    sections: "Sequence[Section]" = ()
    closed: str = ""


@dataclasses.dataclass(frozen=True)
class Lead:
    """What the first screen says.

    Attributes:
      verdict: "satisfied", "violated" or "undecided"; "" for a page without one.
      sentence: the verdict with its numbers.
      declared: what was laid down before looking, as name and value.
    """

    verdict: str
    sentence: str
    declared: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole report; `about` says where it comes from, see `provenance`."""

    title: str
    lead: Lead
    sections: Sequence[Section]
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Provenance(NamedTuple):
    """Where a report comes from.

    Attributes:
      command: that made it; "" if not recorded.
      facts: names and values, in the order given; the date first, versions last.
      hashes: names of files and their digests; None if not recorded.
    """

    command: str
    facts: list[tuple[str, str]]
    hashes: Table | None


def provenance(about: Mapping[str, Any]) -> Provenance:
    """Sorts what is known about a report.

    Args:
      about: `command`, `date` (default: now), `versions` (a mapping; default: those of Python and
        of the packages that computed), `hashes` (a mapping from file to digest), `name` (of who
        signs); anything else is shown under its own name.
    """
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    facts = [("Date", str(about.get("date") or now))]
    known = {"title", "command", "date", "versions", "hashes", "name", "samples"}
    others = {key: value for key, value in about.items() if key not in known}
    facts += [(key.replace("_", " ").capitalize(), str(value)) for key, value in others.items()]
    versions = about.get("versions") or default_versions()
    facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return Provenance(str(about.get("command") or ""), facts, _hashes(about.get("hashes")))


def _hashes(hashes: Mapping[str, str] | None) -> Table | None:
    rows = [(str(file), str(digest)) for file, digest in (hashes or {}).items()]
    columns = ("File", "SHA-256")
    return Table("Files and their SHA-256", columns, rows, frozenset({1})) if rows else None


def css_string(words: str) -> str:
    """`words` as a string of CSS, whatever they contain."""
    plain = (c == " " or (c.isascii() and c.isalnum()) for c in words)
    safe = (c if keep else f"\\{ord(c):x} " for c, keep in zip(words, plain, strict=True))
    return f"'{''.join(safe)}'"


def heads_for_style(table: Table) -> str:
    """The heads of a table as CSS variables: on a telephone they stand before each cell."""
    heads = enumerate(table.columns[1:], start=2)
    return ";".join(f"--c{number}-head:{css_string(head)}" for number, head in heads)


def render_page(page: Page) -> str:
    """The page as HTML, all in one string; every text in it is escaped."""
    return _template().render(
        page=page, provenance=provenance(page.about), signer=str(page.about.get("name") or "")
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bap_jax.audit"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["heads_for_style"] = heads_for_style
    return environment.get_template("page.html")
