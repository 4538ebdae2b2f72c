"""Draws violations and multipliers over the constrained steps of two runs, side by side.

    python benchmarks/multiplier_figure.py RUN RUN --out=docs/auto_multipliers.png

RUN is the folder of a run, with its metrics.jsonl and report.json. Above: the violation of each
group in points, as the multipliers saw it. Below: what its loss is worth, (w_g + λ_g) / w_g.
"""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

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
    rows = [values[max(0, i - WINDOW + 1) : i + 1] for i in range(len(values))]
    return np.array([np.nanmean(row, 0) for row in rows])


def main():
    """Reads the command line and draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs=2, type=pathlib.Path)
    parser.add_argument("--titles", nargs=2, default=["dual.rule=ascent", "dual.rule=auto"])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    given = parser.parse_args()
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.4), sharex=True, sharey="row")
    for column, (run, title) in enumerate(zip(given.runs, given.titles, strict=True)):
        names, shares, violation, multipliers = read(run)
        for i, name in enumerate(names):
            axes[0, column].plot(smoothed(violation)[:, i], lw=1.2, label=name)
            axes[1, column].plot((shares + multipliers)[:, i] / shares[i], lw=1.2)
        axes[0, column].axhline(0, color="black", lw=0.8)
        axes[0, column].set_title(title)
        axes[1, column].set_xlabel("constrained step")
        axes[1, column].set_yscale("log")
    axes[0, 0].set_ylabel("violation, points")
    axes[1, 0].set_ylabel("worth × its share")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 1].legend(frameon=False, fontsize=8, ncol=2)
    figure.tight_layout()
    figure.savefig(given.out, dpi=130)


if __name__ == "__main__":
    main()
