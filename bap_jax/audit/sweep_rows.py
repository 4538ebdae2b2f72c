"""Rows of a sweep, put together where they differ in the seed alone.

A row is what `sweep.json` holds of a run: `config`, the values that the sweep gave it by dotted
key, and `report`, None where the run diverged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def value_label(value: Any) -> str:
    """A value of the config in few letters, without spaces: 0.01, true, 64x64."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(value_label, value))
    return str(value)


def label(values: Mapping[str, Any]) -> str:
    """Values by dotted key as `seed=0,tolerance=0.01`."""
    return ",".join(f"{key}={value_label(value)}" for key, value in values.items())


def by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the label of everything but the seed, in the order in which they first appear."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        others = {key: value for key, value in row["config"].items() if key != "seed"}
        found.setdefault(label(others) or "all seeds", []).append(row)
    return found
