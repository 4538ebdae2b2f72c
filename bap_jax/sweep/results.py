"""Results of a sweep: `sweep.json` with whole reports, `sweep.csv`, `sweep.png`, and a table.

sweep.json is `{"rows": [{"config": {"seed": 0, …}, "report": {…}}, …]}`, with one row for each
finished member in the order of the axes: `config` has the values that the axes set, and `report` is
the member's report.json. A member that diverged has `"report": null`, and `"error"` says why.

sweep.csv has one line for each row: the axes, then one column for each number. Columns of the last
iterate start with `last_`; all others describe the pruned network, which `selection` chooses. Both
files hold fractions; the table that is printed is in percent.
"""

import csv
import io
import json
import statistics
from collections.abc import Sequence
from typing import Any

from bap_jax import reporting
from bap_jax._run_files import attempt
from bap_jax.reporting.sweep_rows import format_setting, format_value, rows_by_setting
from bap_jax.sweep.folder import SweepFolder
from bap_jax.sweep.plan import Member
from bap_jax.workdir import atomic_path, write_atomically

Row = dict[str, Any]
_SPLITS = ("train", "validation", "test")
_NUMBERS = ("sparse_accuracy", "overall_gap", "max_excess_gap", "pairwise_disparity")


def collect_rows(folder: SweepFolder, members: Sequence[Member]) -> list[Row]:
    """A row for each finished member, in the order of `members`."""
    rows = []
    for member in members:
        outcome = folder.outcome(member)
        if outcome:
            error = {"error": outcome.error} if outcome.error is not None else {}
            rows.append({"config": member.overrides, "report": outcome.report, **error})
    return rows


def write_rows(folder: SweepFolder, rows: Sequence[Row]) -> None:
    """Writes `sweep.json` only, as after each chunk."""
    write_atomically(folder.results, json.dumps({"rows": rows}, indent=1) + "\n")


def write_all(folder: SweepFolder, rows: Sequence[Row]) -> list[str]:
    """Writes `sweep.json`, `sweep.csv` and, unless all runs diverged, `sweep.png`.

    Returns:
      A warning if the figure cannot be drawn.
    """
    write_rows(folder, rows)
    write_atomically(folder.table, to_csv(rows))
    if not any(row["report"] for row in rows):
        return []

    def draw():
        with atomic_path(folder.figure) as temporary:
            reporting.draw_tradeoff(rows, temporary)

    return attempt(draw, folder.figure)


def to_csv(rows: Sequence[Row]) -> str:
    """The text of `sweep.csv`, see the module.

    Example:
      >>> print(to_csv([{"config": {"seed": 3}, "report": None, "error": "loss is nan"}]))
      seed,error
      3,loss is nan
      <BLANKLINE>
    """
    lines = [_csv_line(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    columns.sort(key=lambda name: name == "error")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_line(row):
    axes = {key: format_value(value) for key, value in row["config"].items()}
    report = row["report"]
    if report is None:
        return {**axes, "error": row["error"]}
    fixed = {"method": report["method"], "seed": report["seed"]}
    fixed |= {"sparsity.prunable": report["sparsity"]["prunable"], "epoch": report["epoch"]}
    numbers = {
        f"{prefix}{split}_{name}": splits[split][name]
        for prefix, splits in (("", report["splits"]), ("last_", report["last"]["splits"]))
        for split in _SPLITS
        for name in _NUMBERS
    }
    return {**axes, **fixed, **numbers, "error": ""}


def format_rows(rows: Sequence[Row]) -> str:
    """A table for the terminal, in percent; then the members that diverged.

    Each setting has one line: mean ± standard deviation over seeds.

    Args:
      rows: as in `sweep.json`.
    """
    settings = rows_by_setting(rows)
    width = max([len("setting"), *map(len, settings)]) + 2
    titles = [f"{split} {what}" for split in ("train", "test") for what in ("accuracy", "max gap")]
    head = "setting".ljust(width) + "seeds" + "".join(f"{title:>18}" for title in titles)
    lines = [
        f"PRUNED NETWORKS ({_chosen_by(rows)}); percent, mean ± standard deviation over seeds.",
        "max gap: the largest excess accuracy gap of any group.",
        "",
        head,
        "-" * len(head),
    ]
    for setting, same_setting in settings.items():
        reports = [row["report"] for row in same_setting if row["report"]]
        cells = "".join(_cell(reports, title) for title in titles)
        lines.append(f"{setting:{width}}{len(reports):5}{cells}")
    diverged = [row for row in rows if row["report"] is None]
    if diverged:
        lines += ["", f"{len(diverged)} of {len(rows)} diverged:"]
        lines += [f"  {format_setting(row['config'])}: {row['error']}" for row in diverged]
    return "\n".join(lines)


def _chosen_by(rows):
    rules = {row["report"]["selection"] for row in rows if row["report"]}
    return f"selection={rules.pop()}" if len(rules) == 1 else "chosen as selection= says"


def _cell(reports, title):
    split, what = title.split(" ", 1)
    name = "sparse_accuracy" if what == "accuracy" else "max_excess_gap"
    values = [100 * report["splits"][split][name] for report in reports]
    if not values:
        return f"{'diverged':>18}"
    spread = f" ± {statistics.stdev(values):5.2f}" if len(values) > 1 else " " * 8
    return f"{statistics.mean(values):10.2f}{spread}"
