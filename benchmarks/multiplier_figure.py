"""Draws violations and multipliers over the constrained steps of two runs, side by side.

    python benchmarks/multiplier_figure.py --runs=RUN,RUN --out=docs/auto_multipliers.png

RUN is the folder of a run, with its metrics.jsonl and report.json. Above: the violation of each
group in points, as the multipliers saw it. Below: what its loss is worth, (w_g + λ_g) / w_g.
"""

import json
import pathlib

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

_RUNS = flags.DEFINE_list("runs", None, "two folders of runs", required=True)
_TITLES = flags.DEFINE_list("titles", ["dual.rule=ascent", "dual.rule=auto"], "their titles")
_OUT = flags.DEFINE_string("out", None, "the PNG file to write", required=True)
WINDOW = 9  # steps of the running mean of violations


def read(run):
    """Names and shares of the groups, and `(step, group)` violations in points and multipliers."""
    groups = json.loads((run / "report.json").read_text())["last"]["splits"]["train"]["groups"]
    counts = np.array([group["n"] for group in groups], float)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if any(v is not None for v in row.get("violation") or [])]
    violation = np.array([row["violation"] for row in steps], float)
    multipliers = np.array([row["multipliers"] for row in steps], float)
    return [g["name"] for g in groups], counts / counts.sum(), 100 * violation, multipliers


def smoothed(values):
    """`(step, group)` running means that leave NaN out."""
    seen, kernel = np.isfinite(values), np.ones(WINDOW)
    sums, counts = (
        np.apply_along_axis(lambda column: np.convolve(column, kernel)[: len(column)], 0, part)
        for part in (np.where(seen, values, 0.0), seen.astype(float))
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def main(argv):
    """Reads both runs and draws."""
    del argv
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.4), sharex=True, sharey="row")
    for column, (run, title) in enumerate(zip(_RUNS.value, _TITLES.value, strict=True)):
        names, shares, violation, multipliers = read(pathlib.Path(run))
        for i, name in enumerate(names):
            axes[0, column].plot(smoothed(violation)[:, i], lw=1.2, label=name)
            axes[1, column].plot((shares + multipliers)[:, i] / shares[i], lw=1.2)
        axes[0, column].axhline(0, color="black", lw=0.8)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("constrained step")
        axes[1, column].set_yscale("log", subs=[])
        axes[1, column].set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes[0, 0].set_ylabel("violation, points")
    axes[1, 0].set_ylabel("worth × its share")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 1].legend(frameon=False, fontsize=8, ncol=2)
    figure.tight_layout()
    figure.savefig(_OUT.value, dpi=130)


if __name__ == "__main__":
    app.run(main)
