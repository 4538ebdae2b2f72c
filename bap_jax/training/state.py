"""Everything that a step changes, as arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.lagrangian import LagrangianState, SchemeInfo, each_set
from bap_jax.pruning import apply_masks
from bap_jax.pruning.averaged import evaluation_params
from bap_jax.types import Array, ModelState, Params, PyTree, Variables

_SEARCH = "jax_debug_nans"  # JAX makes these attributes when it is imported


class TrainState(NamedTuple):
    """A training run between two steps.

    Attributes:
      params: weights; those that `masks` remove are exactly 0, except under straight-through
        pruning, which keeps all of them.
      model_state: arrays moved by the forward pass.
      masks: 0 or 1 for each weight of a pruned leaf, None for other leaves.
      targets: the target sparsity of each leaf.
      lagrangian: multipliers and optimiser states.
      constraint: the constraint's state (replay buffer).
      step: `()` int32 steps done.
      epoch: `()` int32 epoch of the last step; −1 before the first.
      key: seeds what is random in the forward pass.
    """

    params: Params
    model_state: ModelState
    masks: PyTree
    targets: PyTree
    lagrangian: LagrangianState
    constraint: PyTree
    step: Array
    epoch: Array
    key: Array

    @property
    def variables(self) -> Variables:
        """The network's arrays; removed weights are 0.

        Of a schedule-free optimiser the averaged weights, see `pruning.averaged`.
        """
        params = evaluation_params(self.params, self.lagrangian.primal_state)
        return Variables(apply_masks(params, self.masks), self.model_state)


class StepMetrics(NamedTuple):
    """Numbers of one step, left on the device.

    With several sets of constraints, `(constraint,)` arrays are dicts of arrays by name.

    Attributes:
      loss: `()` mean cross-entropy of the batch.
      accuracy: `()` fraction right in the batch.
      lagrangian: `()` value of the Lagrangian.
      multipliers: `(constraint,)` after this step.
      violation: `(constraint,)` true violations, which moved them; NaN where not observed (0 on the
        device under JAX_DEBUG_NANS).
      proxy: `(constraint,)` differentiable violations, which the weights saw; NaN where not
        observed.
      violation_mask, proxy_mask: `(constraint,)` bool, which were observed.
      nonfinite_group: `()` int32 group of the first sample whose loss is not finite; −1 if all
        losses are finite, or none is.
    """

    loss: Array
    accuracy: Array
    lagrangian: Array
    multipliers: Array
    violation: Array
    proxy: Array
    violation_mask: Array
    proxy_mask: Array
    nonfinite_group: Array | int = -1


class StepAux(NamedTuple):
    """What a step needs from the forward pass, apart from loss and constraint values.

    Attributes:
      model_state: arrays that the forward pass moved.
      constraint_state: the constraint's state (replay buffer) after the batch.
      loss: `()` mean cross-entropy of the batch.
      accuracy: `()` fraction right in the batch.
      nonfinite_group: `()` int32, see `StepMetrics`.
    """

    model_state: ModelState
    constraint_state: PyTree
    loss: Array
    accuracy: Array
    nonfinite_group: Array


def step_metrics(info: SchemeInfo, multipliers: PyTree) -> StepMetrics:
    """The numbers of a step.

    Args:
      info: what the scheme saw, with a `StepAux`.
      multipliers: after the step.
    """
    aux: StepAux = info.evaluation.aux

    def pick(name):
        return each_set(lambda values: getattr(values, name), info.evaluation.constraints)

    # JAX_DEBUG_NANS stops at any NaN that a program returns; `on_host` puts them in then.
    not_seen = 0.0 if _is_searching_nans() else jnp.nan

    def seen(name):
        return jax.tree.map(
            lambda value, mask: jnp.where(mask, value, not_seen), pick(name), pick(f"{name}_mask")
        )

    return StepMetrics(
        loss=aux.loss,
        accuracy=aux.accuracy,
        lagrangian=info.lagrangian,
        multipliers=multipliers,
        violation=seen("violation"),
        proxy=seen("proxy"),
        violation_mask=pick("violation_mask"),
        proxy_mask=pick("proxy_mask"),
        nonfinite_group=aux.nonfinite_group,
    )


def on_host(metrics: StepMetrics) -> StepMetrics:
    """The numbers of steps as host arrays, with NaN for violations that were not observed."""
    metrics = jax.device_get(metrics)
    if not _is_searching_nans():
        return metrics

    def seen(values, masks):
        fill = lambda value, mask: np.where(mask, value, np.full_like(value, np.nan))  # noqa: E731
        return jax.tree.map(fill, values, masks)

    return metrics._replace(
        violation=seen(metrics.violation, metrics.violation_mask),
        proxy=seen(metrics.proxy, metrics.proxy_mask),
    )


def _is_searching_nans() -> bool:
    return getattr(jax.config, _SEARCH)
