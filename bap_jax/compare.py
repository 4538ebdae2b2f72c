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
import traceback
from collections.abc import Sequence
from pathlib import Path

from bap_jax._output import print_text, write_file
from bap_jax.errors import UserError

FINE, BAD_INPUT = 0, 3
USUAL_BASELINE = "nft"


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m bap_jax.compare",
        description="Compare finished runs on the same samples, with intervals.",
        exit_on_error=True,
    )
    parser.error = _raise  # type: ignore[method-assign]
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


def _raise(message):
    raise UserError(f"{message}. Pass --help to see the flags.")


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: of the command line, without the program.

    Returns:
      The exit code.
    """
    try:
        text, files = compare_runs(arguments)
        # First, so that it is not lost where a file cannot be written.
        print_text(text)
        for flag, path, content in files:
            write_file(path, content, flag)
    except (UserError, OSError) as error:
        print_text(f"error: {error}", sys.stderr)
        return BAD_INPUT
    except Exception:
        traceback.print_exc()
        return BAD_INPUT
    return FINE


def compare_runs(arguments: Sequence[str]) -> tuple[str, list[tuple[str, Path, str]]]:
    """Reads the runs, and compares them.

    Returns:
      The text for the terminal, and the files that are asked for: `(flag, path, content)`.

    Raises:
      UserError: a flag is wrong, or the runs cannot be compared.
      OSError: a file cannot be read.
    """
    flags = make_parser().parse_intermixed_args(arguments)
    # These load numpy, which a wrong flag need not wait for.
    from bap_jax.audit.methods import compare_methods
    from bap_jax.audit.provenance import provenance
    from bap_jax.audit.several_runs import read_runs

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
        from bap_jax.audit.comparison_html import render_comparison

        files.append(("out", flags.out, render_comparison(comparison, about)))
    text = comparison.to_text() + (f"\n\npage  {flags.out}" if flags.out else "")
    return text, files


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
