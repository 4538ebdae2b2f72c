"""One line that shows where a run is: in a terminal, in a notebook, or line by line in a log file.

    ceag: 12/60 epochs, sparsity 89.1 %, accuracy 94.2 %, largest gap 1.3 points, Σλ 0.21

Accuracy and gap are those of the validation split; the gap is the largest excess accuracy gap of
any group. Of several runs at once it shows the means, and the largest gap of all of them.
"""

import math
import statistics
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import tqdm

from bap_jax import sharding
from bap_jax.errors import UserError


class LiveLine:
    """The line of one run, or of several that run at once; a context manager.

    Args:
      label: what runs.
      epochs: how many.
      show: True; False; or None, which shows it in a terminal and in a notebook. Where True finds
        neither, every epoch is a line of its own.
      runs: how many run at once; their rows of one epoch come one after another.
      file: where to; by default standard error, in a notebook standard output.
    """

    def __init__(
        self,
        label: str,
        epochs: int,
        show: bool | None = None,
        *,
        runs: int = 1,
        file: TextIO | None = None,
    ):
        check_show(show)
        notebook = in_notebook()
        self._file = file or (sys.stdout if notebook else sys.stderr)
        is_live = notebook or self._file.isatty()
        self._is_shown = (is_live if show is None else show) and sharding.is_first_process()
        self._label, self._epochs, self._runs = label, epochs, runs
        self._rows: list[Mapping[str, Any]] = []  # of the newest epoch
        self._bar = None
        if self._is_shown and is_live:
            self._bar = tqdm.tqdm(
                total=epochs, desc=label, unit="epoch", leave=False, file=self._file
            )

    def __enter__(self) -> "LiveLine":
        return self

    def __exit__(self, *error: object) -> None:
        self._print_line()
        if self._bar is not None:
            self._bar.close()

    def update(self, row: Mapping[str, Any]) -> None:
        """Shows the row of an epoch; those of steps are left out.

        Args:
          row: see `metric_rows.epoch_row`.
        """
        if not self._is_shown or "step" in row:
            return
        if self._rows and row["epoch"] > self._rows[0]["epoch"]:
            self._print_line()
        self._rows.append(row)
        if self._bar is not None:
            self._bar.set_postfix_str(describe(self._rows), refresh=False)
            self._bar.n = row["epoch"] + 1
            self._bar.refresh()
        if len(self._rows) == self._runs:
            self._print_line()

    def _print_line(self):
        """Ends an epoch, with a line of its own where there is no bar."""
        if self._rows and self._bar is None:
            done = self._rows[0]["epoch"] + 1
            text = f"{self._label}: {done}/{self._epochs} epochs, {describe(self._rows)}"
            print(text, file=self._file, flush=True)
        self._rows = []


def describe(rows: list[Mapping[str, Any]]) -> str:
    """The numbers of the line.

    Args:
      rows: of one epoch, one for each run.

    Example:
      >>> row = {"epoch": 3, "sparsity": 0.9, "validation_accuracy": 0.942}
      >>> describe([row | {"validation_max_excess_gap": 0.013, "sum_multipliers": 0.214}])
      'sparsity 90.0 %, accuracy 94.2 %, largest gap 1.3 points, Σλ 0.21'
    """

    def known(name):
        values = [row.get(name) for row in rows]
        return [value for value in values if value is not None and math.isfinite(value)]

    parts = [
        f"{text} {100 * statistics.mean(known(name)):.1f} %"
        for name, text in (("sparsity", "sparsity"), ("validation_accuracy", "accuracy"))
        if known(name)
    ]
    if gaps := known("validation_max_excess_gap"):
        parts.append(f"largest gap {100 * max(gaps):.1f} points")
    if sums := known("sum_multipliers"):
        parts.append(f"Σλ {statistics.mean(sums):.2f}")
    if len(rows) > 1:
        parts.append(f"{len(rows)} runs")
    return ", ".join(parts)


def check_show(show: bool | None) -> None:
    """Raises an error unless `show` is True, False or None.

    Raises:
      UserError: it is something else.
    """
    if not (show is None or isinstance(show, bool)):
        raise UserError(f"progress must be True, False or None; got {show!r}.")


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_shell is not None and type(get_shell()).__name__ in ("ZMQInteractiveShell", "Shell")
