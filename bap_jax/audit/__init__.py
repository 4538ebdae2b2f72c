"""Is a compressed model non-inferior to the dense one, by a margin of ε, in every group?

`compare` takes two columns of right and wrong and a group for each sample, from any framework and
any kind of compression, and returns an `Audit`: a verdict with its limits, what chance alone gives,
and a row for each group. `samples_needed` plans a test set before it is collected, and
`compare_methods` compares several compressed models on the same samples.
`python -m bap_jax.audit` does the same for files. Nothing here needs JAX.
"""

from bap_jax._deprecated import former_names
from bap_jax.audit.assessment import compare, from_counts
from bap_jax.audit.comparison import MethodComparison
from bap_jax.audit.methods import compare_methods
from bap_jax.audit.planning import decidable_tolerance, samples_needed
from bap_jax.audit.result import Audit, BayesMax, Chance, GroupResult, Overall, Skipped

__all__ = [
    "Audit",
    "BayesMax",
    "Chance",
    "GroupResult",
    "MethodComparison",
    "Overall",
    "Skipped",
    "compare",
    "compare_methods",
    "decidable_tolerance",
    "from_counts",
    "samples_needed",
]

__getattr__ = former_names(
    "bap_jax.audit",
    {
        "AccuracyGaps": "bap_jax.reporting.AccuracyGaps",
        "Gaps": "bap_jax.reporting.AccuracyGaps",
        "History": "bap_jax.reporting.History",
        "Row": "bap_jax.reporting.sweep_rows.Row",
        "Score": "bap_jax.reporting.Score",
        "accuracy_gaps": "bap_jax.reporting.accuracy_gaps",
        "better": "bap_jax.reporting.better",
        "by_setting": "bap_jax.reporting.sweep_rows.rows_by_setting",
        "draw_disparity": "bap_jax.reporting.draw_disparity",
        "draw_tradeoff": "bap_jax.reporting.draw_tradeoff",
        "feasibility": "bap_jax.reporting.feasibility",
        "format_report": "bap_jax.reporting.format_report",
        "label": "bap_jax.reporting.sweep_rows.format_setting",
        "score": "bap_jax.reporting.score",
        "split_report": "bap_jax.reporting.split_report",
        "tree_sha256": "bap_jax.reporting.tree_sha256",
        "value_label": "bap_jax.reporting.sweep_rows.format_value",
        "versions": "bap_jax.reporting.versions",
    },
)
