"""python -m bap_jax.audit predictions.csv --tolerance=0.01 --group-by="race*gender"

Audits a compressed model against the one that it was made from: does any group lose more accuracy
than the whole, by more than the tolerance? Reads a table with the predictions of both models (CSV,
Parquet, .npz), two tables, one a model, the samples of two language models that
lm-evaluation-harness wrote, or, by --run, a finished run of bap_jax.

Exit code: 0 satisfied, 1 violated, 2 undecided, 3 no verdict because of an error.
"""

import json
import sys
from collections.abc import Sequence

from bap_jax.audit.arguments import parse
from bap_jax.audit.assessment import compare
from bap_jax.audit.output import FAILED, Outcome, exit_code_of, print_text
from bap_jax.audit.provenance import provenance
from bap_jax.audit.reading import read

SATISFIED, VIOLATED, UNDECIDED, NO_VERDICT = 0, 1, 2, FAILED
# A tolerance that may have been meant in percentage points.
_LARGE = 0.2
_EXIT_CODES = {"satisfied": SATISFIED, "violated": VIOLATED, "undecided": UNDECIDED}


def main(arguments: Sequence[str]) -> int:
    """Runs the command.

    Args:
      arguments: of the command line, without the program.

    Returns:
      The exit code. An error of any kind is `NO_VERDICT`, never the code of a verdict.
    """
    return exit_code_of(audit, arguments)


def audit(arguments: Sequence[str]) -> Outcome:
    """Reads the samples, audits them, and puts the result into words and pages.

    Raises:
      UserError: a flag, a file or a cell is wrong.
      OSError: a file cannot be read.
    """
    flags = parse(arguments)
    samples, tolerance = read(flags)
    warnings = list(samples.warnings)
    if tolerance >= _LARGE:
        warnings.append(f"a tolerance of {tolerance:g} is {100 * tolerance:g} percentage points.")
    for warning in warnings:
        print_text(f"warning: {warning}", sys.stderr)
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
    files = []
    if flags.json:
        files.append(("json", flags.json, _json({**result.to_dict(), **about})))
    if flags.report:
        files.append(("report", flags.report, result.to_html(**about)))
    exit_code = _EXIT_CODES[result.verdict]
    if exit_code == UNDECIDED and flags.on_undecided == "pass":
        exit_code = SATISFIED
    return Outcome(result.to_text(flags.verbose), exit_code, tuple(files))


def _json(fields):
    """JSON with a line for each field, and in a list a line for each item.

    `json.dumps` with an indentation is written in Python, and slow for 10,000 groups.
    """
    lines = []
    for name, value in fields.items():
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
