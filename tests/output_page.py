"""docs/outputs.md as a specification: the tables of the page, and values compared with them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[1] / "docs" / "outputs.md"
SPLITS = ("train", "validation", "test")
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "value": (bool, int, float, str, list),
    # Documented on their own; nothing below them is looked at.
    "config": dict,
    "report": dict,
    "summary": dict,
}
MISSING = object()
CONDITIONS = ("if ", "only ", "unless ", "once ")
_CLOSED = ("config", "report", "summary")


class Entry(NamedTuple):
    """A row of a table.

    Attributes:
      path: segments of the key; `[]` for the items of a list, capitals for any name.
      type: as the page says it.
      is_always: whether the page promises it without a condition.
      key: as the page writes it; several entries may share it.
    """

    path: tuple[str, ...]
    type: str
    is_always: bool
    key: str


def tables() -> dict[str, list[dict[str, str]]]:
    """Rows of every table as dicts from column to cell, by the heading above the table."""
    found: dict[str, list[dict[str, str]]] = {}
    heading, columns = "", None
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").replace("`", "")
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if columns is None:
            columns = cells
        elif not set(line) <= set("|- "):
            found.setdefault(heading, []).append(dict(zip(columns, cells, strict=True)))
    return found


def entries(heading: str, column: str = "key", separator: str | None = ".") -> list[Entry]:
    """The rows of a table, each once for every key that it stands for."""
    found = []
    for row in tables()[heading]:
        assert re.fullmatch(r"`[^`]+`", row[column]), f"{heading}: {row}"
        assert row["present"] == "always" or row["present"].startswith(CONDITIONS), row
        for key in _spelled_out(row[column].strip("`")):
            path = tuple(key.split(separator)) if separator else (key,)
            path = tuple(part for piece in path for part in _list_parts(piece))
            found.append(Entry(path, row.get("type", ""), row["present"] == "always", row[column]))
    assert len({entry.path for entry in found}) == len(found), f"{heading} has a key twice"
    return found


def _spelled_out(key):
    """`[last.]SPLIT` for train, last.train and so on."""
    optional = re.fullmatch(r"\[(\w+[._])\](.*)", key)
    keys = [optional[2], optional[1] + optional[2]] if optional else [key]
    return [k.replace("SPLIT", s) for k in keys for s in (SPLITS if "SPLIT" in k else ("",))]


def _list_parts(piece):
    name = piece.removesuffix("[]")
    return [part for part in (name, "[]" * piece.endswith("[]")) if part]


def matches(part: str, documented: str) -> bool:
    """Whether a segment of a key is the documented one, in which words of capitals are any name."""
    pattern = re.split(r"\b([A-Z]{3,}|N(?=/|$))\b", documented.replace("seedN", "seed§"))
    text = "".join(".+" if i % 2 else re.escape(piece) for i, piece in enumerate(pattern))
    return re.fullmatch(text.replace("§", r"\d+"), part, flags=re.DOTALL) is not None


def leaves(value: Any, path: tuple[str, ...], closed: list[tuple]) -> Iterator[tuple]:
    """Paths of everything in a JSON value that is neither an object nor a list of objects."""
    if any(fits(path, other) for other in closed):
        yield path
    elif isinstance(value, dict) and value:
        for key, below in value.items():
            yield from leaves(below, (*path, key), closed)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for item in value:
            yield from leaves(item, (*path, "[]"), closed)
    else:
        yield path


def fits(path: tuple[str, ...], documented: tuple[str, ...]) -> bool:
    """Whether a path is a documented one."""
    return len(path) == len(documented) and all(map(matches, path, documented))


def values_at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """All values at a documented path, `MISSING` for each place that does not have it."""
    if not path:
        yield value
    elif path[0] == "[]":
        for item in value if isinstance(value, list) else (MISSING,):
            yield from values_at(item, path[1:])
    else:
        keys = value if isinstance(value, dict) else ()
        below = [value[key] for key in keys if matches(key, path[0])]
        for found in below:
            yield from values_at(found, path[1:])
        if not below:
            yield MISSING


def is_of_type(value: Any, name: str) -> bool:
    """Whether a JSON value has a type of the page, such as `list of number or null`."""
    if name.startswith("list of "):
        return isinstance(value, list) and all(is_of_type(v, name[8:]) for v in value)
    kind, _, null = name.partition(" or ")
    assert null in ("", "null"), name
    if value is None:
        return null == "null"
    if isinstance(value, bool) and kind not in ("boolean", "value"):
        return False
    return isinstance(value, TYPES[kind])


def check(headings: str | tuple[str, ...], instances: list[Any]) -> set[str]:
    """Compares JSON values with a table: their keys, the types, and what must always be there.

    Args:
      headings: of the tables that describe the same object.
      instances: the objects.

    Returns:
      The keys on the page that never occurred; all of them are marked as conditional.
    """
    heading, *_ = headings = (headings,) if isinstance(headings, str) else headings
    table, occurred = [entry for name in headings for entry in entries(name)], set()
    closed = [entry.path for entry in table if entry.type.split(" ")[0] in _CLOSED]
    for instance in instances:
        for path in leaves(instance, (), closed):
            known = any(fits(path, entry.path[: len(path)]) for entry in table)
            assert known, f"{heading} does not document {'.'.join(path)}"
        for entry in table:
            name = f"{heading}: {'.'.join(entry.path)}"
            for value in values_at(instance, entry.path):
                if value is MISSING:
                    assert not entry.is_always, f"{name} is missing"
                else:
                    occurred.add(entry.key)
                    assert is_of_type(value, entry.type), f"{name} is {value!r}, not {entry.type}"
    never = {entry.key for entry in table} - occurred
    always = {entry.key for entry in table if entry.is_always}
    assert not never & always, f"{heading}: {never & always} never occur"
    return never
