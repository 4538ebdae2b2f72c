"""What became of each group: gaps, the choice of an iterate, the report."""

from bap_jax.audit.feasibility import History as History
from bap_jax.audit.feasibility import feasibility as feasibility
from bap_jax.audit.figure import draw_disparity as draw_disparity
from bap_jax.audit.gaps import AccuracyGaps as AccuracyGaps
from bap_jax.audit.gaps import accuracy_gaps as accuracy_gaps
from bap_jax.audit.report import split_report as split_report
from bap_jax.audit.report import tree_sha256 as tree_sha256
from bap_jax.audit.report import versions as versions
from bap_jax.audit.selection import Score as Score
from bap_jax.audit.selection import better as better
from bap_jax.audit.selection import score as score
from bap_jax.audit.sweep_rows import Row as Row
from bap_jax.audit.sweep_rows import by_setting as by_setting
from bap_jax.audit.sweep_rows import label as label
from bap_jax.audit.sweep_rows import value_label as value_label
from bap_jax.audit.table import format_report as format_report
from bap_jax.audit.tradeoff import draw_tradeoff as draw_tradeoff
