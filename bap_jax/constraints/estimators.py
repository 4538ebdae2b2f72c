"""Estimates of group means from a stream of batches, and of the overall mean.

Let s, d ∈ {0, 1} say whether the sparse and the dense model are right on a sample, and let bars be
means over the k buffered samples of a group. A_g(θ_s) is estimated by one of

    plain             s̄
    paired            s̄ − (d̄ − A_g(θ_d))
    control_variate   s̄ − c (d̄ − A_g(θ_d)),   c = Cov(s, d) / Var(d)
    adaptive          a short and a long average, see `adaptive_memory`

The dense model's accuracy is known exactly, so the error of d̄ is known too, and the part of s̄'s
error that is correlated with it can be removed. Where groups are alike, the third estimator has
variance A(1 − A)(1 − ρ²)/k instead of A(1 − A)/k. One group alone has too few samples to estimate
c, so Cov and Var are sums over groups, and c minimises the sum of the groups' variances.
See docs/method.md, equations (13) to (16).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import adaptive_memory, fading_mean, replay_buffer
from bap_jax.constraints.base import (
    DenseReference,
    StateInit,
)
from bap_jax.constraints.observations import Observations, dense_correct_of
from bap_jax.constraints.replay_buffer import Estimate
from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree

OVERALL = ("population", "group_mean")
ESTIMATORS = ("plain", "paired", "control_variate", "adaptive")
READ_DENSE_LOGITS = ("paired", "control_variate")


class EstimatorUpdate(Protocol):
    """Signature of `Estimator.update`."""

    def __call__(self, state: PyTree, observations: Observations, /) -> tuple[Estimate, PyTree]:
        """Takes one batch into account; pure.

        Args:
          state: of `init` or of the last call.
          observations: of the batch; samples of weight 0 leave the state as it is.

        Returns:
          Means `(group,)`, and the new state.
        """
        ...


class Estimator(NamedTuple):
    """Estimates group means from a stream of batches.

    Attributes:
      init: `() -> state`.
      update: `(state, Observations) -> (Estimate, state)`.
    """

    init: StateInit
    update: EstimatorUpdate


def mean_estimator(
    num_groups: int,
    buffer_size: int,
    values: Callable[[Observations], Array] = lambda observations: observations.loss,
    *,
    fading: bool = False,
) -> Estimator:
    """Means of groups over their last samples.

    Args:
      num_groups: all groups of all attributes.
      buffer_size: k, samples of each group; with 0, those of the batch.
      values: `Observations -> (batch,)`, what is averaged; by default the loss.
      fading: let old samples fade instead of buffering the last k; see `fading_mean`.
    """
    if fading and buffer_size:
        return Estimator(
            lambda: fading_mean.init(num_groups),
            lambda sums, seen: fading_mean.update(sums, values(seen), seen, buffer_size),
        )
    if buffer_size == 0:
        return Estimator(lambda: (), lambda s, o: (_batch_estimate(values(o), o, num_groups), s))

    def update(buffer, observations):
        ids = _weighted_ids(observations, num_groups)
        buffer = replay_buffer.push(buffer, values(observations), ids)
        return replay_buffer.query(buffer), buffer

    return Estimator(lambda: replay_buffer.init(num_groups, buffer_size), update)


def accuracy_estimator(
    reference: DenseReference, buffer_size: int, estimator: str = "plain"
) -> Estimator:
    """Accuracies of groups over their last samples.

    Args:
      reference: the dense model's exact group accuracies.
      buffer_size: k, samples of each group; with 0, those of the batch, with the `plain` estimator.
      estimator: one of `ESTIMATORS`; those of `READ_DENSE_LOGITS` need the dense model's logits in
        `Observations`.

    Raises:
      UserError: `estimator` is unknown, or needs a buffer and has none.
    """
    num_groups = reference.group_accuracy.shape[0]
    check_estimator(estimator, buffer_size)
    if buffer_size == 0:
        return mean_estimator(num_groups, 0, lambda observations: observations.correct)
    if estimator == "adaptive":
        return Estimator(
            lambda: adaptive_memory.init(num_groups),
            lambda memory, seen: adaptive_memory.update(memory, seen, reference, buffer_size),
        )
    if estimator == "plain":
        return _buffered(num_groups, buffer_size, bool, lambda o: o.correct, _plain)
    dense = reference.group_accuracy
    combine = {"paired": _paired, "control_variate": _control_variate}[estimator]
    return _buffered(
        num_groups,
        buffer_size,
        jnp.uint8,
        lambda o: o.correct + 2 * dense_correct_of(o),
        lambda estimate, memory: combine(estimate, memory, dense),
        decode=lambda rows: jnp.stack([rows & 1, rows >> 1, rows & (rows >> 1)], axis=-1),
    )


def check_estimator(estimator: str, buffer_size: int) -> None:
    """Checks the name of an estimator, and that it has a buffer where it needs one.

    Raises:
      UserError: `estimator` is unknown, or needs a buffer and has none.
    """
    if estimator not in ESTIMATORS:
        raise UserError(f"unknown estimator {estimator!r}; known: {', '.join(ESTIMATORS)}.")
    if estimator != "plain" and buffer_size == 0:
        raise UserError(f"the {estimator} estimator needs a buffer; write a buffer_size of 40.")


def _buffered(num_groups, buffer_size, dtype, encode, combine, decode=None):
    """An estimator that buffers `encode(observations)` and applies `combine` to the means."""
    statistics = () if decode is None else (3,)
    options = {} if decode is None else {"decode": decode}

    def update(buffer, observations):
        ids = _weighted_ids(observations, num_groups)
        buffer = replay_buffer.push(buffer, encode(observations), ids, **options)
        return combine(replay_buffer.query(buffer), buffer_size), buffer

    return Estimator(lambda: replay_buffer.init(num_groups, buffer_size, dtype, statistics), update)


def _plain(estimate, memory):
    return estimate._replace(variance=estimate.mean * (1 - estimate.mean) / memory)


def _moments(estimate):
    """`(group,)` s̄, d̄, Var(s), Var(d), Cov(s, d)."""
    s, d, both = estimate.mean.T
    return s, d, s * (1 - s), d * (1 - d), both - s * d


def _paired(estimate, memory, dense):
    s, d, var_s, var_d, covariance = _moments(estimate)
    mean = jnp.where(estimate.observed, s - (d - dense), 0)
    variance = jnp.maximum(var_s + var_d - 2 * covariance, 0) / memory
    return Estimate(mean, estimate.observed, variance)


def _control_variate(estimate, memory, dense):
    s, d, var_s, var_d, covariance = _moments(estimate)
    total = var_d.sum()  # over observed groups: the moments of the others are 0
    c = covariance.sum() / jnp.where(total > 0, total, 1)
    mean = jnp.where(estimate.observed, s - c * (d - dense), 0)
    variance = jnp.maximum(var_s + c**2 * var_d - 2 * c * covariance, 0) / memory
    return Estimate(mean, estimate.observed, variance)


def _weighted_ids(observations, num_groups):
    """Group ids `(batch, attribute)`, with samples of weight 0 in no group."""
    return jnp.where(observations.weight[:, None] > 0, observations.group_ids, num_groups)


def _batch_estimate(values, observations, num_groups):
    sums = metrics.group_sums(values, observations.group_ids, observations.weight, num_groups)
    return Estimate(metrics.group_means(sums), sums.count > 0)


def check_overall(kind: str) -> None:
    """Checks the name of a kind of overall mean.

    Raises:
      UserError: `kind` is unknown.
    """
    if kind not in OVERALL:
        raise UserError(f"unknown kind of overall mean {kind!r}; known: {', '.join(OVERALL)}.")


def overall_shares(observed: Array, frequency: Array, kind: str) -> Array:
    """`(group,)` weights of the observed groups in the overall mean, which add up to 1 (or to 0).

    Args:
      observed: `(group,)` bool.
      frequency: `(group,)` w_g, used by `population`.
      kind: `population`, w_g / Σ w_g over the observed groups (docs/method.md, equation (14)), or
        `group_mean`, the plain mean over them, as in the reference.

    Raises:
      UserError: `kind` is unknown.
    """
    check_overall(kind)
    weight = frequency if kind == "population" else jnp.ones_like(frequency)
    weight = jnp.where(observed, weight, 0)
    total = weight.sum()
    return weight / jnp.where(total > 0, total, 1)


def overall_mean(group_values: Array, shares: Array) -> Array:
    """`()` Σ share_g x_g; where a share is 0, `group_values` may be NaN."""
    return jnp.sum(shares * jnp.where(shares > 0, group_values, 0))
