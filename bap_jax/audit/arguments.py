"""The flags of the command, and whether they fit each other."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bap_jax.audit.output import Parser
from bap_jax.errors import UserError

ABOUT = """
Audits a compressed model against the one that it was made from: does any group lose more accuracy
than the whole, by more than the tolerance? Reads a table with the predictions of both models (CSV,
Parquet, .npz), two tables, one a model, the samples of two language models that
lm-evaluation-harness wrote, or, by --run, a finished run of bap_jax.
"""
EXIT_CODES = "Exit code: 0 satisfied, 1 violated, 2 undecided, 3 no verdict because of an error."
TABLES, LANGUAGE_MODELS, RUN = "tables", "samples of language models", "a finished run"
_ONLY_FOR = {
    **dict.fromkeys(("id", "label", "dense", "sparse"), (TABLES,)),
    **dict.fromkeys(("dense_correct", "sparse_correct"), (TABLES,)),
    **dict.fromkeys(("metric", "filter"), (LANGUAGE_MODELS,)),
    "groups": (TABLES, LANGUAGE_MODELS),
    "split": (RUN,),
}
NO_TOLERANCE = (
    "a tolerance is missing; write --tolerance=0.01, by how much more accuracy than the whole a "
    "group may lose, as a fraction: 0.01 is one percentage point"
)


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = Parser(
        "python -m bap_jax.audit", description=ABOUT, epilog=EXIT_CODES, allow_abbrev=False
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="one table with both models' predictions; or two tables, or two folders of "
        "samples_*.jsonl: first of the original model, then of the compressed one",
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="a finished run of bap_jax instead")
    parser.add_argument("--split", metavar="NAME", help="of the run; default: test")
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
    output.add_argument("--json", type=Path, metavar="FILE", help="JSON file to write; - prints it")
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


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The values of the flags, checked as far as no file has to be read.

    Returns:
      The flags by name; `kind` is what is read, `groups` the names in it.

    Raises:
      UserError: a flag is unknown or has a wrong value, or files do not fit each other.
    """
    flags = make_parser().parse_intermixed_args(arguments)
    _check(flags)
    flags.kind = _kind(flags)
    for name, kinds in _ONLY_FOR.items():
        if getattr(flags, name) is not None and flags.kind not in kinds:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} is for {' and '.join(kinds)}, not for {flags.kind}")
    flags.groups = tuple(name.strip() for name in (flags.groups or "").split(",") if name.strip())
    return flags


def _check(flags):
    if flags.run and flags.files:
        raise UserError("--run=DIR takes the place of files; leave one of them out")
    if not flags.run and len(flags.files) not in (1, 2):
        raise UserError(
            f"expected one file with both models' predictions, or two, one a model; got "
            f"{len(flags.files)}. Example: python -m bap_jax.audit predictions.csv "
            "--tolerance=0.01 --group-by=group"
        )
    if len(flags.files) == 2 and flags.files[0].resolve() == flags.files[1].resolve():
        raise UserError(
            f"{flags.files[0]} is named twice; name the file of each model, or, if it holds the "
            "predictions of both, name it once"
        )
    if flags.tolerance is None and not flags.run:
        raise UserError(NO_TOLERANCE)
    if flags.tolerance is not None and flags.tolerance >= 1:
        raise UserError(
            f"--tolerance={flags.tolerance:g} is {100 * flags.tolerance:g} percentage points, "
            "which every model satisfies; write a fraction, 0.01 for one percentage point"
        )


def _kind(flags):
    if flags.run:
        return RUN
    # What else a folder or JSON lines file may be, its reader says.
    models = any(path.is_dir() or path.suffix == ".jsonl" for path in flags.files)
    return LANGUAGE_MODELS if models else TABLES
