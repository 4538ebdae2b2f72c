"""Rows of a sweep, grouped by everything but the seed.

A row is an entry of `sweep.json`: `config` has the values that the sweep set, by dotted key, and
`report` is the run's report, or None if the run diverged.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def format_value(value: Any) -> str:
    """A value of the config as short text without spaces.

    Example:
      >>> format_value(True), format_value([64, 64]), format_value(0.01)
      ('true', '64x64', '0.01')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(format_value, value))
    return str(value)


def format_setting(values: Mapping[str, Any]) -> str:
    """Values by dotted key as text.

    Example:
      >>> format_setting({"seed": 0, "tolerance": 0.01})
      'seed=0,tolerance=0.01'
    """
    return ",".join(f"{key}={format_value(value)}" for key, value in values.items())


def rows_by_setting(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows grouped by their values other than the seed, in the order of first appearance.

    Returns:
      Rows by `format_setting` of those values, or by `all seeds` if only the seed was varied.
    """
    settings: dict[str, list[Row]] = {}
    for row in rows:
        others = {key: value for key, value in row["config"].items() if key != "seed"}
        settings.setdefault(format_setting(others) or "all seeds", []).append(row)
    return settings
