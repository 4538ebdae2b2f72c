"""python -m bap_jax.audit predictions.csv --tolerance=0.01 --group-by="race*gender"

Audits a compressed model against the one that it was made from: does any group lose more accuracy
than the whole, by more than the tolerance? Reads a table with the predictions of both models (CSV,
Parquet, .npz), two tables, one a model, the samples of two language models that
lm-evaluation-harness wrote, or, by --run, a finished run of bap_jax.

Exit code: 0 satisfied, 1 violated, 2 undecided, 3 no verdict because of an error.
"""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from bap_jax.errors import UserError

SATISFIED, VIOLATED, UNDECIDED, NO_VERDICT = 0, 1, 2, 3
_EXIT_CODES = {"satisfied": SATISFIED, "violated": VIOLATED, "undecided": UNDECIDED}


class _Parser(argparse.ArgumentParser):
    def error(self, message) -> NoReturn:
        raise UserError(f"{message}. Flags and examples: python -m bap_jax.audit --help")


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    intro, _, codes = (__doc__ or "").partition("\n\n")[2].rpartition("\n\n")
    parser = _Parser("python -m bap_jax.audit", description=intro, epilog=codes, allow_abbrev=False)
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="one table with both models' predictions; or two tables, or two folders of "
        "samples_*.jsonl: first of the original model, then of the compressed one",
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run of bap_jax instead")
    parser.add_argument("--split", metavar="NAME", default="test", help="of the run; default: test")
    _add_audit_flags(parser.add_argument_group("what is audited"))
    _add_column_flags(parser.add_argument_group("names of columns; by default the usual ones"))
    models = parser.add_argument_group("language models")
    models.add_argument(
        "--metric", metavar="NAME", help="score that is 0 or 1; default: acc, else exact_match, …"
    )
    models.add_argument(
        "--filter", metavar="NAME", help="which filter counts in tasks that have several"
    )
    output = parser.add_argument_group("results")
    output.add_argument("--report", type=Path, metavar="FILE", help="HTML page to write")
    output.add_argument("--json", type=Path, metavar="FILE", help="JSON file to write")
    output.add_argument("--verbose", action="store_true", help="print all groups")
    output.add_argument(
        "--on-undecided",
        choices=("fail", "pass"),
        default="fail",
        help="exit code if undecided: fail (2, the default) or pass (0)",
    )
    return parser


def _fraction(text):
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected a fraction, 0.01 for one percentage point; got {text!r}"
        ) from None


def _add_audit_flags(flags):
    flags.add_argument(
        "--tolerance",
        type=_fraction,
        metavar="FRACTION",
        help="by how much more than the whole a group may lose, a fraction: 0.01 is one point",
    )
    flags.add_argument(
        "--group-by",
        default="",
        metavar="COLUMNS",
        help="race*gender for every combination, race+gender for each on its own; fields of doc or "
        "task for language models",
    )
    flags.add_argument(
        "--groups",
        metavar="COLUMNS",
        help="columns that each group samples on their own: race,gender",
    )
    flags.add_argument(
        "--alpha", type=float, metavar="LEVEL", default=0.05, help="one-sided level; default: 0.05"
    )
    flags.add_argument(
        "--min-group-size",
        type=int,
        metavar="N",
        default=30,
        help="smallest group assessed; default: 30",
    )
    flags.add_argument(
        "--seed", type=int, metavar="N", default=0, help="of the permutations; default: 0"
    )
    flags.add_argument(
        "--permutations", type=int, metavar="N", help="how many show what chance alone gives"
    )


def _add_column_flags(flags):
    flags.add_argument(
        "--id", metavar="COLUMN", help="ids of samples, by which two tables are joined"
    )
    flags.add_argument("--label", metavar="COLUMN", help="right answers")
    flags.add_argument(
        "--dense",
        metavar="COLUMN",
        help='predictions of the original model; of several scores: "dense_*"',
    )
    flags.add_argument("--sparse", metavar="COLUMN", help="predictions of the compressed model")
    flags.add_argument(
        "--dense-correct", metavar="COLUMN", help="whether the original model is right: 0 or 1"
    )
    flags.add_argument(
        "--sparse-correct", metavar="COLUMN", help="whether the compressed model is right: 0 or 1"
    )


class Outcome(NamedTuple):
    """What the command found, and what it returns to the shell."""

    text: str
    exit_code: int


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: of the command line, without the program.

    Returns:
      The exit code. An error of any kind is `NO_VERDICT`, never the code of a verdict.
    """
    try:
        outcome = audit(arguments)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return NO_VERDICT
    except Exception:
        traceback.print_exc()
        return NO_VERDICT
    _print(outcome.text)
    return outcome.exit_code


def audit(arguments: Sequence[str]) -> Outcome:
    """Reads the samples, audits them, and writes the files that are asked for.

    Raises:
      UserError: a flag, a file or a cell is wrong.
      OSError: a file cannot be read or written.
    """
    flags = make_parser().parse_intermixed_args(arguments)
    _check(flags)
    # These load numpy, which a wrong flag need not wait for.
    from bap_jax.audit.assessment import compare
    from bap_jax.audit.provenance import provenance

    samples, tolerance = _read(flags)
    for warning in samples.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    result = compare(
        samples.dense_correct,
        samples.sparse_correct,
        samples.groups,
        tolerance=tolerance,
        alpha=flags.alpha,
        min_group_size=flags.min_group_size,
        group_by=flags.group_by,
        permutations=flags.permutations,
        seed=flags.seed,
    )
    about = provenance(arguments, samples.files, samples.source)
    if flags.json:
        _write(flags.json, json.dumps({**result.to_dict(), **about}, indent=1) + "\n")
    if flags.report:
        _write(flags.report, result.to_html(**about))
    exit_code = _EXIT_CODES[result.verdict]
    if exit_code == UNDECIDED and flags.on_undecided == "pass":
        exit_code = SATISFIED
    return Outcome(result.to_text(flags.verbose), exit_code)


def _check(flags):
    if flags.run and flags.files:
        raise UserError("--run=DIR takes the place of files; leave one of them out")
    if not flags.run and len(flags.files) not in (1, 2):
        raise UserError(
            f"expected one file with both models' predictions, or two, one a model; got "
            f"{len(flags.files)}. Example: python -m bap_jax.audit predictions.csv "
            "--tolerance=0.01 --group-by=group"
        )
    if flags.tolerance is None and not flags.run:
        raise UserError(_NO_TOLERANCE)


_NO_TOLERANCE = (
    "a tolerance is missing; write --tolerance=0.01, by how much more accuracy than the whole a "
    "group may lose, as a fraction: 0.01 is one percentage point"
)


def _read(flags):
    """The samples, and the tolerance."""
    if flags.run:
        from bap_jax.audit.run_folder import read_run

        run = read_run(flags.run, flags.split)
        tolerance = run.tolerance if flags.tolerance is None else flags.tolerance
        if tolerance is None:
            raise UserError(_NO_TOLERANCE)
        return run.samples, tolerance
    return _read_files(flags), flags.tolerance


def _read_files(flags):
    from bap_jax.audit import harness_files

    if any(harness_files.is_harness(path) for path in flags.files):
        return _read_language_models(flags)
    from bap_jax.audit.columns import Wanted

    wanted = Wanted(
        flags.label,
        flags.dense,
        flags.sparse,
        flags.dense_correct,
        flags.sparse_correct,
        flags.id,
        _groups(flags),
        flags.group_by,
    )
    if len(flags.files) == 2:
        from bap_jax.audit.joining import read_two_tables

        return read_two_tables(flags.files[0], flags.files[1], wanted)
    from bap_jax.audit.predictions import read_predictions

    return read_predictions(flags.files[0], wanted)


def _read_language_models(flags):
    from bap_jax.audit.language_models import read_language_models

    if len(flags.files) != 2:
        raise UserError(
            f"{flags.files[0]} is read as samples of one language model; name two, first the "
            "original model, then the compressed one. A finished run of bap_jax is audited by "
            f"--run={flags.files[0]}"
        )
    return read_language_models(
        *flags.files,
        metric=flags.metric,
        filter_name=flags.filter,
        group_by=flags.group_by or "+".join(_groups(flags)),
    )


def _groups(flags):
    return tuple(name.strip() for name in flags.groups.split(",")) if flags.groups else ()


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _print(text):
    """Prints although the reader may have closed the pipe: the exit code is what counts."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
