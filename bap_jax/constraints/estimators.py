"""Estimates of group means from a stream of batches, and the overall mean that belongs to them."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import replay_buffer
from bap_jax.constraints.base import Observations
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.types import Array, PyTree, UserError

OVERALL = ("population", "group_mean")


class Estimator(NamedTuple):
    """Estimates group means from a stream of batches.

    Attributes:
      init: `() -> state`.
      update: `(state, values (batch,), Observations) -> (Estimate, state)`.
    """

    init: Callable[[], PyTree]
    update: Callable[[PyTree, Array, Observations], tuple[Estimate, PyTree]]


def group_estimator(num_groups: int, buffer_size: int, dtype=jnp.float32) -> Estimator:
    """Means over the last `buffer_size` samples of each group, or over the batch where it is 0."""
    if buffer_size == 0:
        return Estimator(lambda: (), lambda s, v, o: (_batch_estimate(v, o, num_groups), s))

    def update(buffer, values, observations):
        ids = jnp.where(observations.weight[:, None] > 0, observations.group_ids, num_groups)
        buffer = replay_buffer.push(buffer, values, ids)
        return replay_buffer.query(buffer), buffer

    return Estimator(lambda: replay_buffer.init(num_groups, buffer_size, dtype), update)


def _batch_estimate(values, observations, num_groups):
    sums = metrics.group_sums(values, observations.group_ids, observations.weight, num_groups)
    return Estimate(metrics.group_means(sums), sums.count > 0)


def overall_mean(group_values: Array, observed: Array, frequency: Array, kind: str) -> Array:
    """The mean over everything, from the means of the observed groups.

    Args:
      group_values: `(group,)`.
      observed: `(group,)` bool.
      frequency: `(group,)` w_g, used by `population`.
      kind: `population`, Σ w_g x_g / Σ w_g over the observed groups, or `group_mean`, their plain
        mean, which is what the reference takes.

    Raises:
      UserError: `kind` is unknown.
    """
    if kind not in OVERALL:
        raise UserError(f"unknown kind of overall mean {kind!r}; known: {', '.join(OVERALL)}.")
    weight = frequency if kind == "population" else jnp.ones_like(frequency)
    values = jnp.where(observed, group_values, 0)  # an empty group's may be NaN
    return metrics.weighted_mean(values, jnp.where(observed, weight, 0))
