"""python -m bap_jax.compare RUN RUN ... --out=compare.html

Compares finished runs on the samples that all of them were judged on: accuracy, flips, spread of
the excess gaps and the largest one, each with an interval, and which differences chance may
explain. A RUN is the folder of a run, or a workdir or sweep that holds runs; runs that differ only
in the seed are averaged. Neither JAX nor the networks are needed.

Exit codes: 0, or 3 for bad input.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bap_jax.audit.methods import compare_methods
from bap_jax.audit.output import Outcome, Parser, exit_code_of
from bap_jax.audit.provenance import provenance
from bap_jax.audit.several_runs import read_runs
from bap_jax.errors import UserError

FINE = 0
USUAL_BASELINE = "nft"


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = Parser(
        "python -m bap_jax.compare",
        description="Compare finished runs on the same samples, with intervals.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, a workdir or a sweep"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a page of HTML")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers as JSON")
    parser.add_argument("--split", default="test", help="part of the data; default: test")
    parser.add_argument(
        "--baseline",
        default="",
        metavar="METHOD",
        help="what the others are compared with; default: nft, else the method of the first run",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="FRACTION",
        help="shown beside the gaps, 0.01 is one point; default: that of the runs",
    )
    parser.add_argument(
        "--alpha", type=float, default=0.05, help="one-sided level of limits; default: 0.05"
    )
    parser.add_argument("--min-group-size", type=int, default=30, metavar="N", help="default: 30")
    parser.add_argument("--resamples", type=int, default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--seed", type=int, default=0, help="of the resamples; default: 0")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: of the command line, without the program.

    Returns:
      The exit code.
    """
    return exit_code_of(compare_runs, arguments)


def compare_runs(arguments: Sequence[str]) -> Outcome:
    """Reads the runs, and compares them.

    Raises:
      UserError: a flag is wrong, or the runs cannot be compared.
      OSError: a file cannot be read.
    """
    flags = make_parser().parse_intermixed_args(arguments)
    runs = read_runs(flags.runs, flags.split)
    tolerance = runs.tolerance if flags.tolerance is None else flags.tolerance
    if tolerance is None:
        raise UserError("the runs have different tolerances; write --tolerance=0.01, a fraction.")
    usual = USUAL_BASELINE if USUAL_BASELINE in runs.correct else ""
    comparison = compare_methods(
        runs.correct,
        runs.dense_correct,
        runs.groups,
        tolerance=tolerance,
        alpha=flags.alpha,
        min_group_size=flags.min_group_size,
        baseline=flags.baseline or usual,
        resamples=flags.resamples,
        seed=flags.seed,
    )
    seeds = [f"{name}: {', '.join(map(str, numbers))}" for name, numbers in runs.seeds.items()]
    about = provenance(
        arguments, runs.files, f"seeds of {'; '.join(seeds)}", program="bap_jax.compare"
    )
    files = []
    if flags.json:
        numbers = json.dumps({**comparison.to_dict(), **about}, indent=1)
        files.append(("json", flags.json, f"{numbers}\n"))
    if flags.out:
        # jinja2, which only pages need, takes its time.
        from bap_jax.audit.comparison_html import render_comparison

        files.append(("out", flags.out, render_comparison(comparison, about)))
    text = comparison.to_text() + (f"\n\npage  {flags.out}" if flags.out else "")
    return Outcome(text, FINE, tuple(files))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
