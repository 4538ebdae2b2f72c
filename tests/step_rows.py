"""Rows of single steps."""

from collections.abc import Mapping

import numpy as np

from bap_jax.metric_rows import step_rows
from bap_jax.training import StepMetrics


def step_row(step, epoch, metrics, frequency, method):
    """The row of one step, from its metrics without a leading axis."""
    metrics = StepMetrics(*map(_with_step_axis, metrics))
    [row] = step_rows(step, epoch, metrics, frequency, method)
    return row


def _with_step_axis(values):
    if isinstance(values, Mapping):  # in their own order, which `jax.tree.map` does not keep
        return {name: np.asarray(one)[None] for name, one in values.items()}
    return np.asarray(values)[None]
