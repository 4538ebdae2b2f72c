"""From samples to groups: losses, correctness, and sums and counts for each group."""

from bap_jax.metrics.classes import correctness, cross_entropy, kl_divergence
from bap_jax.metrics.criterion import (
    CLASSIFICATION,
    Criterion,
    SampleFunction,
    check_zero_or_one,
    sample_correct,
    sample_losses,
)
from bap_jax.metrics.group_sums import GroupSums, group_means, group_sums, weighted_mean
from bap_jax.metrics.ready_made import BINARY, MULTI_LABEL, ORDINAL, SEQUENCE, ordinal, top_k
from bap_jax.metrics.registry import CRITERIA, find_criterion, register_criterion

__all__ = [
    "BINARY",
    "CLASSIFICATION",
    "CRITERIA",
    "MULTI_LABEL",
    "ORDINAL",
    "SEQUENCE",
    "Criterion",
    "GroupSums",
    "SampleFunction",
    "check_zero_or_one",
    "correctness",
    "cross_entropy",
    "find_criterion",
    "group_means",
    "group_sums",
    "kl_divergence",
    "ordinal",
    "register_criterion",
    "sample_correct",
    "sample_losses",
    "top_k",
    "weighted_mean",
]
