"""Accuracy gaps of groups, for the multipliers and for the weights.

    Δ_g = A_g(θ_d) − A_g(θ_s)      group gap
    Δ   = A(θ_d) − A(θ_s)          overall gap
    ψ_g = Δ_g − Δ                  excess gap

The multipliers see estimates of these from the replay buffer. The weights see a proxy on the batch,
where r is the mean loss, or the mean divergence KL(p_dense ‖ p) from the dense model:

    Δ̃_g = r_g(θ_s) − r_g(θ_d),   ψ̃_g = Δ̃_g − (r(θ_s) − r(θ_d))

All constraints on accuracy share this module. See docs/method.md, equations (2), (3), (7), (14) and
(17).
"""

from typing import NamedTuple, Protocol

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import (
    DenseReference,
    StateInit,
)
from bap_jax.constraints.estimators import (
    Estimate,
    accuracy_estimator,
    check_overall,
    overall_mean,
    overall_shares,
)
from bap_jax.constraints.observations import Observations, divergence_of
from bap_jax.errors import UserError
from bap_jax.types import Array, PyTree

PROXIES = ("loss", "kl")


class GapEstimates(NamedTuple):
    """Gaps of all groups; fractions, and nats for the proxies.

    Attributes:
      group: `(group,)` estimate of Δ_g.
      excess: `(group,)` estimate of ψ_g.
      group_variance, excess_variance: `(group,)` variances of these two estimates.
      observed: `(group,)` bool, groups for which there is an estimate.
      group_proxy: `(group,)` Δ̃_g.
      excess_proxy: `(group,)` ψ̃_g.
      present: `(group,)` bool, groups that occur in the batch.
      overall: `()` r(θ_s) − r(θ_d).
      accuracy: `()` estimate of the overall accuracy: the dense model's, less the overall gap of
        the groups observed so far. 0 without a buffer, where its deviation is not known.
      accuracy_deviation: `()` its standard deviation, with groups of other attributes as the same
        samples again, and the share of the groups that were not observed yet: they may be right
        always or never.
    """

    group: Array
    excess: Array
    group_variance: Array | float
    excess_variance: Array
    observed: Array
    group_proxy: Array
    excess_proxy: Array
    present: Array
    overall: Array
    accuracy: Array
    accuracy_deviation: Array


class GapUpdate(Protocol):
    """Signature of `GapEstimator.update`."""

    def __call__(self, state: PyTree, observations: Observations, /) -> tuple[GapEstimates, PyTree]:
        """Takes one batch into account; pure.

        Args:
          state: of `init` or of the last call.
          observations: of the batch; samples of weight 0 leave the state as it is.

        Returns:
          Gaps of all groups, and the new state.
        """
        ...


class GapEstimator(NamedTuple):
    """Estimates gaps from a stream of batches.

    Attributes:
      init: `() -> state`.
      update: `(state, Observations) -> (GapEstimates, state)`.
    """

    init: StateInit
    update: GapUpdate


def gap_estimator(
    reference: DenseReference,
    *,
    buffer_size: int = 40,
    estimator: str = "plain",
    overall_accuracy: str = "population",
    proxy: str = "loss",
) -> GapEstimator:
    """Estimates gaps of groups.

    Args:
      reference: the dense model on the training split; its arrays give the number of groups.
      buffer_size: k, samples of each group from which its accuracy is estimated; with 0, the batch.
      estimator: see `estimators.accuracy_estimator`.
      overall_accuracy: how the buffer's overall accuracy is formed. `population` weights groups by
        their training frequencies and compares with the dense accuracy of the same groups;
        `group_mean` is the reference's plain mean over groups, which it compares with the dense
        model's mean over samples.
      proxy: `loss`, or `kl`, which needs the dense model's logits.

    Raises:
      UserError: `proxy`, `estimator` or `overall_accuracy` is unknown.
    """
    if proxy not in PROXIES:
        raise UserError(f"unknown proxy {proxy!r}; known: {', '.join(PROXIES)}.")
    check_overall(overall_accuracy)
    accuracy = accuracy_estimator(reference, buffer_size, estimator)

    def overall_gap(group_gap, shares, estimate: Estimate, observations: Observations):
        """The overall gap, the accuracy of all samples, and its deviation."""
        unknown = jnp.zeros(())
        if buffer_size == 0:
            sparse = metrics.weighted_mean(observations.correct, observations.weight)
            return reference.accuracy - sparse, unknown, unknown
        if overall_accuracy == "population":
            lost = overall_mean(group_gap, shares)
        else:
            lost = reference.accuracy - overall_mean(estimate.mean, shares)
        return lost, reference.accuracy - lost, _doubt(estimate, shares, reference)

    def update(state, observations):
        estimate, state = accuracy.update(state, observations)
        group = reference.group_accuracy - estimate.mean
        shares = overall_shares(estimate.observed, reference.frequency, overall_accuracy)
        lost, accuracy_of_all, deviation = overall_gap(group, shares, estimate, observations)
        group_proxy, present, overall_proxy = _proxies(reference, observations, proxy)
        return GapEstimates(
            group=group,
            excess=group - lost,
            group_variance=estimate.variance,
            excess_variance=_excess_variance(estimate, shares),
            observed=estimate.observed,
            group_proxy=group_proxy,
            excess_proxy=group_proxy - overall_proxy,
            present=present,
            overall=overall_proxy,
            accuracy=accuracy_of_all,
            accuracy_deviation=deviation,
        ), state

    return GapEstimator(accuracy.init, update)


def _doubt(estimate, shares, reference):
    """`()` deviation of the overall accuracy, and the share of the groups without an estimate."""
    seen = jnp.sum(jnp.where(estimate.observed, reference.frequency, 0))
    attributes = reference.frequency.sum()  # whose errors are the same errors
    unseen = jnp.maximum(1 - seen / attributes, 0)
    variance = jnp.maximum(attributes, 1) * jnp.sum(shares**2 * estimate.variance)
    return jnp.sqrt(variance) + unseen


def _excess_variance(estimate, shares):
    """Var(Â_g − Σ_h u_h Â_h) = (1 − 2 u_g) Var(Â_g) + Σ_h u_h² Var(Â_h), groups independent."""
    total = jnp.sum(shares**2 * estimate.variance)
    return jnp.maximum((1 - 2 * shares) * estimate.variance + total, 0)


def _proxies(reference, observations, proxy):
    values, group_dense, dense = observations.loss, reference.group_loss, reference.loss
    if proxy == "kl":
        values = divergence_of(observations)
        group_dense, dense = jnp.zeros_like(group_dense), 0.0
    num_groups = group_dense.shape[0]
    sums = metrics.group_sums(values, observations.group_ids, observations.weight, num_groups)
    overall = metrics.weighted_mean(values, observations.weight) - dense
    return metrics.group_means(sums) - group_dense, sums.count > 0, overall
