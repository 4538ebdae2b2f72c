"""Objectives: the number that the weights minimise, as a function of a batch's losses.

    mean          Σ ℓ_i / n
    reweighted    Σ u_{g(i)} ℓ_i / n,   u_g ∝ 1/n_g, 1/√n_g or (1 − β)/(1 − β^{n_g})
    performance   Σ w_i ℓ_i / Σ w_i,    w_i = θ + (1 − θ)(1 − p_dense(y_i))^γ

For a loss that is no cross-entropy of classes, p_dense(y_i) is exp(−ℓ_dense,i), which is the
probability of the label wherever a loss is a negative log-likelihood.

The third form of u_g is the class-balanced loss (Cui et al. 2019, arXiv 1901.05555); the last is
the performance-weighted loss (arXiv 2211.10285).
"""

from typing import Protocol

import jax
import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints.base import DenseReference
from bap_jax.constraints.observations import Observations, dense_logits_of, labels_of
from bap_jax.errors import UserError
from bap_jax.types import Array

REWEIGHTINGS = ("inverse", "inverse_sqrt", "class_balanced")


class Objective(Protocol):
    """What the weights minimise, apart from the constraints."""

    def __call__(self, observations: Observations, /) -> Array:
        """`()` objective on one batch; pure and differentiable. Ignores samples of weight 0."""
        ...


def mean_loss(observations: Observations) -> Array:
    """`()` mean loss of the batch."""
    return metrics.weighted_mean(observations.loss, observations.weight)


def reweighted_loss(reference: DenseReference, form: str, beta: float = 0.999) -> Objective:
    """The mean loss with every sample weighted by the size of its group.

    Weights have mean 1 over the training split. A sample of several groups gets their mean weight;
    a sample of no group gets weight 1.

    Args:
      reference: sizes and frequencies of the groups.
      form: `inverse`, `inverse_sqrt` or `class_balanced`.
      beta: β in [0, 1) of `class_balanced`.

    Raises:
      UserError: `form` is unknown.
    """
    if form not in REWEIGHTINGS:
        raise UserError(f"unknown reweighting {form!r}; known: {', '.join(REWEIGHTINGS)}.")
    count = jnp.maximum(reference.count, 1)
    raw = {
        "inverse": 1 / count,
        "inverse_sqrt": 1 / jnp.sqrt(count),
        "class_balanced": (1 - beta) / (1 - beta**count),
    }[form]
    group_weight = raw / metrics.weighted_mean(raw, reference.frequency)

    def objective(observations):
        ids = observations.group_ids
        # A negative index would count from the end.
        ids = jnp.where(ids < 0, group_weight.size, ids)
        weights = group_weight.at[ids].get(mode="fill", fill_value=1.0)
        return metrics.weighted_mean(observations.loss * weights.mean(1), observations.weight)

    return objective


def performance_weighted_loss(floor: Array | float = 0.1, gamma: Array | float = 2.0) -> Objective:
    """The mean loss with most weight on samples of which the dense model is unsure.

    Args:
      floor: θ in [0, 1], weight of a sample of which the dense model is sure.
      gamma: γ ≥ 0.
    """

    def objective(observations):
        label_log_p = _dense_log_likelihood(observations)
        weights = floor + (1 - floor) * (1 - jnp.exp(label_log_p)) ** gamma
        return metrics.weighted_mean(observations.loss, observations.weight * weights)

    return objective


def _dense_log_likelihood(observations):
    dense, labels = dense_logits_of(observations), labels_of(observations)
    if observations.criterion.has_classes:
        log_p = jax.nn.log_softmax(dense)
        return jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    return jnp.minimum(-metrics.sample_losses(observations.criterion, dense, labels), 0)
