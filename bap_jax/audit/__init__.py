"""What pruning did to each group: gaps, the selected iterate, the report, tables and figures."""

from bap_jax._deprecated import former_names
from bap_jax.audit.feasibility import History, feasibility
from bap_jax.audit.figure import draw_disparity
from bap_jax.audit.gaps import AccuracyGaps, accuracy_gaps
from bap_jax.audit.report import split_report, tree_sha256, versions
from bap_jax.audit.selection import Score, better, score
from bap_jax.audit.table import format_report
from bap_jax.audit.tradeoff import draw_tradeoff

__all__ = [
    "AccuracyGaps",
    "History",
    "Score",
    "accuracy_gaps",
    "better",
    "draw_disparity",
    "draw_tradeoff",
    "feasibility",
    "format_report",
    "score",
    "split_report",
    "tree_sha256",
    "versions",
]

__getattr__ = former_names(
    "bap_jax.audit",
    {
        "Gaps": "bap_jax.audit.AccuracyGaps",
        "Row": "bap_jax.audit.sweep_rows.Row",
        "by_setting": "bap_jax.audit.sweep_rows.rows_by_setting",
        "label": "bap_jax.audit.sweep_rows.format_setting",
        "value_label": "bap_jax.audit.sweep_rows.format_value",
    },
)
