"""The rows of `accelerator.py` as a table: whole for a file, short for the end of the output."""

from collections.abc import Mapping, Sequence
from typing import Any

from accelerator_parts.part import Results, describe, goal_text, numbers_text, ratio_text

LONGEST = 11_000  # characters: fits where only the last 12,000 of an output are kept


def write(results: Results) -> None:
    """Writes all rows to `table.md` beside the file of rows."""
    lines = ["| part | case | ratio | goal | numbers |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in results.rows]
    (results.folder / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cells(row):
    if row["status"] != "ok":
        return [row["part"], row["case"], "", "", describe(row).replace("\n", " ")]
    return [row["part"], row["case"], ratio_text(row), goal_text(row), numbers_text(row)]


def short(rows: Sequence[Mapping[str, Any]], longest: int = LONGEST) -> str:
    """One line for each row; other numbers than ratios are left out if it gets too long."""
    for width in (200, 130, 100, 86):
        lines = [_line(row, width) for row in rows]
        text = "\n".join(lines)
        if len(text) <= longest:
            return text
    left_out = 0
    while len(text) > longest:
        left_out += 1
        text = "\n".join([*lines[:-left_out], f"… and {left_out} rows in table.md"])
    return text


def _line(row, width):
    return f"{row['part']:8} {row['case']:36} {describe(row)}".replace("\n", " ")[:width].rstrip()
