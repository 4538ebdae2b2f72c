"""`report.html` of a run: the audit of the test split, and how the network came about."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.audit.html import audit_sections, lead_of
from bap_jax.audit.numbers import count, percent, points
from bap_jax.audit.page import Lead, Page, Paragraph, Section, render_page
from bap_jax.audit.result import Audit
from bap_jax.audit.svg.bars import Bar, draw_bars
from bap_jax.audit.svg.figure import Table
from bap_jax.data import Splits
from bap_jax.reporting.predictions import SplitPredictions
from bap_jax.reporting.training_curves import training_parts
from bap_jax.reporting.verdict_text import verdict_sentence
from bap_jax.reporting.verdicts import audit_of_counts, counts_of
from bap_jax.reporting.worst_samples import worst_samples

_COMMANDS = ("main.py", "__main__.py")


class RunRecord(NamedTuple):
    """What the page of a run is made from.

    Attributes:
      report: as in `report.json`.
      predictions: of the dense and the pruned network, by name of the split.
      splits: of the data.
      metrics: path of `metrics.jsonl`.
      constraint_names: in the order of its lists.
      layer_sizes: weights of each array that may be pruned, by path.
      hashes: SHA-256 by what they are of.
    """

    report: Mapping[str, Any]
    predictions: Mapping[str, SplitPredictions]
    splits: Splits
    metrics: Path
    constraint_names: Sequence[str]
    layer_sizes: Mapping[str, int]
    hashes: Mapping[str, str]


def render_run(run: RunRecord) -> str:
    """The page of a run, complete in itself."""
    report = run.report
    audit = _audit(run)
    sections = audit_sections(audit) if audit else []
    own = [_other_splits(report), *_training(run), _sparsity(run)]
    if audit:
        own.append(worst_samples(audit, run.predictions["test"], run.splits))
    lead = lead_of(audit) if audit else Lead("", "")
    lead = Lead(lead.verdict, verdict_sentence(report, "test"), lead.declared)
    title = f"{report['method'].upper()}, seed {report['seed']}: does every group fare as well?"
    return render_page(Page(title, lead, [*sections[:-1], *own, *sections[-1:]], _about(run)))


def _audit(run) -> Audit | None:
    names, attributes = run.splits.group_names, run.splits.attribute_of_group()
    counts = counts_of(run.predictions["test"], names, attributes)
    return audit_of_counts(counts, run.report["tolerance"])


def _other_splits(report) -> Section:
    rows = []
    for name, split in report["splits"].items():
        chance = split["expected_by_chance"]
        rows.append(
            (
                name.capitalize(),
                count(split["n"]),
                split["verdict"],
                percent(split["dense_accuracy"], 2),
                percent(split["sparse_accuracy"], 2),
                points(split["max_excess_gap"], 2),
                "–" if chance is None else points(chance, 2),
                percent(split["flip_rate"]),
            )
        )
    columns = (
        "Part", "Samples", "Verdict", "Dense", "Sparse",
        "Largest gap, points", "By chance", "Flips",
    )  # fmt: skip
    others = [name for name in report["splits"] if name != "test"]
    parts = [Table("The three parts of the data", columns, rows, frozenset({2}))]
    words = [Paragraph(verdict_sentence(report, name)) for name in others]
    return Section("parts", "Training, validation and test data", [*parts, *words])


def _training(run) -> list[Section]:
    parts = training_parts(run.metrics, run.constraint_names)
    multipliers = run.report.get("multipliers")
    if multipliers:
        parts = [Paragraph(multipliers["sentence"]), *parts]
    return [Section("training", "While training", parts)] if parts else []


def _sparsity(run) -> Section:
    sparsity = run.report["sparsity"]
    bars = [Bar(path, share, run.layer_sizes[path]) for path, share in sparsity["layers"].items()]
    figure = draw_bars(
        bars,
        "figure-sparsity",
        "Weights removed from each layer",
        thing="weight",
        caption=f"{percent(sparsity['prunable'], 2)} of all weights that may be pruned, "
        f"{percent(sparsity['total'], 2)} of all parameters.",
    )
    return Section("sparsity", "Sparsity of each layer", [figure])


def _about(run) -> dict[str, Any]:
    report = run.report
    sparsity = report["sparsity"]["prunable"]
    return {
        "command": command_line(sys.argv),
        "method": report["method"],
        "seed": report["seed"],
        "pruned": f"{percent(sparsity, 2)} of the prunable weights, after epoch {report['epoch']}",
        "chosen by": report["selection"],
        "versions": report["versions"],
        "hashes": run.hashes,
    }


def command_line(arguments: Sequence[str]) -> str:
    """The command that runs, as it would be typed.

    Example:
      >>> command_line(["/lib/bap_jax/main.py", "--config=experiments/digits.py"])
      'python -m bap_jax.main --config=experiments/digits.py'
    """
    program = Path(arguments[0])
    if program.name not in _COMMANDS or "bap_jax" not in program.parts:
        return shlex.join(["python", *arguments]) if program.suffix == ".py" else ""
    start = len(program.parts) - 1 - program.parts[::-1].index("bap_jax")
    names = [part.removesuffix(".py") for part in program.parts[start:]]
    module = ".".join(name for name in names if name != "__main__")
    return shlex.join(["python", "-m", module, *arguments[1:]])
