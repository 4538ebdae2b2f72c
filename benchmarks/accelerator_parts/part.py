"""What a part of `accelerator.py` is, and how it hands in its numbers.

A row is one JSON object in `results.jsonl`. It has the keys `part`, `case`, `status` (`ok`,
`failed` or `skipped`), `device`, `jax`, `date`, `small` (whether sizes were tiny), `at` (seconds
since the start) and its numbers. Ratios are `ratio`, `lower_quartile`, `upper_quartile`; with a
`goal`, `met` says whether the ratio is at most that (not in a dry run).
"""

import datetime
import gc
import json
import math
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

_LINES_OF_ERROR, _LONGEST_ERROR = 6, 1200


class Part(NamedTuple):
    """Some measurements that belong together.

    Attributes:
      name: for `--only`.
      what: one line for `--list`.
      share: of the time, relative to the shares of the other parts that run.
      run: measures, and hands every number to the recorder as soon as it is there.
    """

    name: str
    what: str
    share: float
    run: Callable[["Recorder"], None]


class Results:
    """All rows so far; each is appended to a file and printed as it comes.

    Args:
      folder: gets `results.jsonl`; it is made if need be, and rows already there are kept.
      small: whether sizes are tiny.

    Attributes:
      rows: all of them, in order.
      folder, small: as given.
    """

    def __init__(self, folder: str | Path, small: bool):
        self.rows: list[dict[str, Any]] = []
        self.folder, self.small = Path(folder), small
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start = time.monotonic()

    def add(self, part: str, case: str, status: str, **numbers: Any) -> None:
        """Appends a row, flushed, and prints it."""
        row = {
            "part": part,
            "case": case,
            "status": status,
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "date": datetime.date.today().isoformat(),
            "small": self.small,
            "at": round(time.monotonic() - self._start, 1),
            **{name: _plain(number) for name, number in numbers.items()},
        }
        self.rows.append(row)
        with open(self.folder / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['at']:7.1f} s  {part:8} {case:44} {describe(row)}", flush=True)


class Recorder:
    """What a part sees of the command.

    Args:
      part: name of the part.
      results: where rows go.
      deadline: of the part, on `clock`.
      rounds: of every comparison; None leaves it to the part.
      clock: returns seconds.

    Attributes:
      small: whether sizes must be tiny, to try the command on a CPU.
    """

    def __init__(
        self,
        part: str,
        results: Results,
        deadline: float,
        rounds: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.small = results.small
        self._part, self._results, self._deadline = part, results, deadline
        self._rounds, self._clock = rounds, clock

    def seconds_left(self) -> float:
        """Of this part's share; negative once it is used up."""
        return self._deadline - self._clock()

    def rounds(self, default: int) -> int:
        """How often to time something: `--rounds`, few in a dry run, otherwise `default`."""
        return self._rounds or (2 if self.small else default)

    def row(self, case: str, **numbers: Any) -> None:
        """Hands in the numbers of a case: finite numbers, None, strings, bools, or lists of them.

        With `ratio` and `goal`, `met` is added, except in a dry run, which proves nothing.
        """
        if not self.small and None not in (numbers.get("goal"), numbers.get("ratio")):
            numbers["met"] = bool(numbers["ratio"] <= numbers["goal"])
        self._results.add(self._part, case, "ok", **numbers)

    def earlier(self, part: str, case: str) -> dict[str, Any] | None:
        """The row of a case that was measured before, in this or another part; None if none was."""
        for row in reversed(self._results.rows):
            if (row["part"], row["case"], row["status"]) == (part, case, "ok"):
                return row
        return None

    def failed(self, case: str, error: BaseException) -> None:
        """Reports a case that raised an error, by the last lines of its traceback."""
        lines = "".join(traceback.format_exception(error)).strip().splitlines()
        text = "\n".join(lines[-_LINES_OF_ERROR:])[-_LONGEST_ERROR:]
        kind = f"{type(error).__name__}: {str(error)[:200]}"
        self._results.add(self._part, case, "failed", error=kind, traceback=text)

    def skipped(self, case: str, why: str) -> None:
        """Reports a case that was left out."""
        self._results.add(self._part, case, "skipped", why=why)

    def attempt(
        self,
        case: str,
        measure: Callable[..., Mapping[str, Any] | None],
        *arguments: Any,
        need: float = 0.0,
    ) -> bool:
        """Measures a case if there is time; errors are reported and go no further.

        Compiled programs are forgotten afterwards, which frees the memory of their constants.

        Args:
          case: name of the row.
          measure: returns the numbers of the row, or None if it hands in rows itself.
          *arguments: of `measure`.
          need: seconds that it takes at least, compilation included; ignored in a dry run.

        Returns:
          Whether it was measured.
        """
        left, measured = self.seconds_left(), False
        if left <= (0 if self.small else need):
            self.skipped(case, f"no time left: {left:.0f} s, needs about {need:.0f} s")
            return False
        try:
            numbers = measure(*arguments)
            if numbers is not None:
                self.row(case, **numbers)
            measured = True
        except Exception as error:
            self.failed(case, error)
        gc.collect()
        jax.clear_caches()
        return measured


def describe(row: Mapping[str, Any]) -> str:
    """The numbers of a row in one line."""
    if row["status"] != "ok":
        return f"{row['status'].upper()}: {row.get('error') or row.get('why')}"
    return "  ".join(filter(None, [ratio_text(row), goal_text(row), numbers_text(row)]))


def ratio_text(row: Mapping[str, Any]) -> str:
    """The ratio of a row with its quartiles; empty if it has none."""
    if row.get("ratio") is None:
        return ""
    text = f"{row['ratio']:.3f}"
    if row.get("lower_quartile") is not None:
        text += f" ({row['lower_quartile']:.3f} – {row['upper_quartile']:.3f})"
    return text


def goal_text(row: Mapping[str, Any]) -> str:
    """The goal of a row and whether it is met; empty if it has none."""
    if row.get("goal") is None:
        return ""
    verdict = {True: " met", False: " NOT met", None: ""}[row.get("met")]
    return f"≤ {row['goal']:g}{verdict}"


_KEYS = {"part", "case", "status", "device", "jax", "date", "small", "at"}
_RATIO_KEYS = {"ratio", "lower_quartile", "upper_quartile", "goal", "met"}


def numbers_text(row: Mapping[str, Any]) -> str:
    """The other numbers of a row, `name=number`."""
    others = {name: row[name] for name in row if name not in _KEYS | _RATIO_KEYS}
    return " ".join(f"{name}={_short(number)}" for name, number in others.items())


def _short(number):
    if isinstance(number, float):
        return f"{number:.4g}" if abs(number) < 1e4 else f"{number:.3e}"
    return str(number)


def _plain(number):
    """The same as JSON can hold it; NaN and infinity become None."""
    if isinstance(number, dict):
        return {str(name): _plain(value) for name, value in number.items()}
    if isinstance(number, list | tuple):
        return [_plain(value) for value in number]
    if isinstance(number, np.generic | jax.Array) or (
        isinstance(number, np.ndarray) and number.ndim == 0
    ):
        number = number.item()
    if isinstance(number, float) and not math.isfinite(number):
        return None
    return number
