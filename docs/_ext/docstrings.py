"""Docstrings as they are written here, in the form that Sphinx reads.

The docstrings are plain text: names in single backticks, formulas such as |λ|, and programs,
tables and diagrams that are indented. Before napoleon reads the sections (Args, Returns, …), this
extension turns everything in backticks into code, dotted public names into links, protects the
characters |, * and _, and shows indented text as it stands.
"""

import itertools
import re
from collections import namedtuple

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_SECTION = re.compile(r"[A-Z][A-Za-z ]+:$")
_BULLET = re.compile(r"\s*(?:[*-]|\d+\.) ")
_BEFORE_NAPOLEON = 400  # napoleon listens with Sphinx's default priority, 500
_FIELD = type(namedtuple("Pair", "first").first)


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-skip-member", _skip_fields)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _process(app, kind, name, documented, options, lines):
    out = []
    for is_text, group in itertools.groupby(_classified(lines), key=lambda pair: pair[0]):
        piece = [line for _, line in group]
        out += _mark_up("\n".join(piece)).split("\n") if is_text else piece
    lines[:] = out


def _skip_fields(app, kind, name, member, skip, options):
    """Fields of a NamedTuple: the class explains them under Attributes."""
    return True if isinstance(member, _FIELD) else None


def _classified(lines):
    """`(is_text, line)` for each line; `::` goes before a paragraph that is a block of its own.

    Such a paragraph is indented and neither in a section nor in a list. Doctests are no text.
    """
    head, in_section, in_block, in_doctest = "", False, False, False
    for i, line in enumerate(lines):
        is_indented = line.startswith(" ")
        if line and not is_indented:
            head, in_section, in_block = line, bool(_SECTION.match(line)), False
        if is_indented and i and not lines[i - 1].strip() and not in_block:
            in_block = not (in_section or _BULLET.match(head))
            if in_block:
                yield from ((False, "::"), (False, ""))
        in_doctest = bool(line.strip()) and (in_doctest or line.lstrip().startswith(">>> "))
        yield not (in_block or in_doctest), line


def _mark_up(text):
    """reStructuredText of plain text."""
    pieces, end = [], 0
    for match in _CODE.finditer(text):
        code = " ".join(match.group(2).split())
        pieces.append(_escape(text[end : match.start()]))
        pieces.append(f"`{code}`" if _NAME.fullmatch(code) else f"``{code}``")
        end = match.end()
    return "".join([*pieces, _escape(text[end:])])


def _escape(text):
    """Keeps |, * and a final _ as they are, but for the * of a list."""
    lines = []
    for line in text.split("\n"):
        bullet = _BULLET.match(line)
        start = bullet.end() if bullet else 0
        lines.append(line[:start] + re.sub(r"([|*]|_(?!\w))", r"\\\1", line[start:]))
    return "\n".join(lines)
