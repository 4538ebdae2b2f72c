"""What a run reports: gaps on each split, the chosen iterate, feasibility, tables and figures.

The page of a run is imported when it is used: it needs jinja2, which a machine that only trains may
lack.
"""

import importlib
from typing import TYPE_CHECKING, Any

from bap_jax.reporting.feasibility import History, feasibility
from bap_jax.reporting.figure import draw_disparity
from bap_jax.reporting.gaps import AccuracyGaps, accuracy_gaps
from bap_jax.reporting.predictions import SplitPredictions, save_predictions
from bap_jax.reporting.report import split_report, tree_sha256, versions
from bap_jax.reporting.selection import Score, better, score
from bap_jax.reporting.table import format_report
from bap_jax.reporting.tradeoff import draw_tradeoff

if TYPE_CHECKING:
    from bap_jax.reporting.html import RunRecord, render_run

__all__ = [
    "AccuracyGaps",
    "History",
    "RunRecord",
    "Score",
    "SplitPredictions",
    "accuracy_gaps",
    "better",
    "draw_disparity",
    "draw_tradeoff",
    "feasibility",
    "format_report",
    "render_run",
    "save_predictions",
    "score",
    "split_report",
    "tree_sha256",
    "versions",
]


def __getattr__(name: str) -> Any:
    if name in ("RunRecord", "render_run"):
        return getattr(importlib.import_module("bap_jax.reporting.html"), name)
    raise AttributeError(f"module 'bap_jax.reporting' has no attribute {name!r}")
