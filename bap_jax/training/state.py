"""Everything that a step changes, as arrays."""

from typing import NamedTuple

from bap_jax.lagrangian import LagrangianState
from bap_jax.pruning import apply_masks
from bap_jax.types import Array, ModelState, Params, PyTree, Variables


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
        """The network's arrays; removed weights are 0."""
        return Variables(apply_masks(self.params, self.masks), self.model_state)


class StepMetrics(NamedTuple):
    """Numbers of one step, left on the device.

    With several sets of constraints, `(constraint,)` arrays are dicts of arrays by name.

    Attributes:
      loss: `()` mean cross-entropy of the batch.
      accuracy: `()` fraction right in the batch.
      lagrangian: `()` value of the Lagrangian.
      multipliers: `(constraint,)` after this step.
      violation: `(constraint,)` true violations, which moved them; NaN where not observed.
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
