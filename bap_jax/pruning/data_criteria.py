"""Criteria that make masks once, from the dense network and its data, and keep them.

MaskInputs ─► MasksFromData.make_masks ─► masks ─► the updater's field `masks`
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.fairgrape import fairgrape
from bap_jax.pruning.fixed_masks import FixedMasks
from bap_jax.pruning.foresight import Flow, snip, synflow
from bap_jax.types import Array, Dataset, Params, PyTree


class SampleLosses(Protocol):
    """The losses of single samples."""

    def __call__(self, params: Params, samples: Dataset) -> Array:
        """`(batch,)` float32 losses, by default cross-entropies, in evaluation mode."""
        ...


class WeightedBatch(NamedTuple):
    """A batch; all batches have one size.

    Attributes:
      samples: `batch` samples of the training split, on the device.
      weights: `(batch,)` float32; 1, and 0 for samples that only fill up the last batch.
    """

    samples: Dataset
    weights: Array


class MakeBatches(Protocol):
    """Reads the training split."""

    def __call__(self) -> list[WeightedBatch]:
        """Every sample once, in random order; the same order at each call."""
        ...


class MakeFlow(Protocol):
    """Makes the network's flow."""

    def __call__(self) -> Flow:
        """The flow of `foresight.synflow`, with running statistics of initialisation."""
        ...


class MaskInputs(NamedTuple):
    """What a criterion can use.

    Attributes:
      params: the parameters of the dense network.
      prunable: a bool for each leaf.
      sparsity: fraction of the prunable weights to remove, in [0, 1).
      targets: a sparsity for each leaf by `pruning.distribution`, None where it is not pruned.
      counting: a key of `counting.RULES`.
      num_groups: number of all groups of all attributes.
      seed: the run's seed.
      sample_losses: see `SampleLosses`; differentiable in the parameters.
      make_batches: reads the training split, every sample once in random order.
      make_flow: makes the network's flow, with running statistics of initialisation.
      kernel_axes: see `pruning.kernel_axes`; None where they are not known.
    """

    params: Params
    prunable: PyTree
    sparsity: float
    targets: PyTree
    counting: str
    num_groups: int
    seed: int
    sample_losses: SampleLosses
    make_batches: MakeBatches
    make_flow: MakeFlow
    kernel_axes: Mapping[str, KernelAxes] | None = None

    def summed_loss(self, params: Params, batch: WeightedBatch) -> Array:
        """`()`, the sum of the losses in a batch, in which every sample counts alike."""
        return (self.sample_losses(params, batch.samples) * batch.weights).sum()

    def group_loss(self, params: Params, batch: WeightedBatch, group: Array) -> Array:
        """`()`, the mean loss of the batch's samples in a group; 0 where there are none."""
        is_member = (batch.samples.group_ids == group).any(-1)
        losses = self.sample_losses(params, batch.samples)
        return metrics.weighted_mean(losses, jnp.where(is_member, batch.weights, 0))

    def keep_largest(self, scores: PyTree) -> PyTree:
        """Masks that keep the largest scores of each leaf, as many as `targets` say.

        Layers that are stacked in a leaf are ranked each by itself.

        Args:
          scores: a tree like `params`.

        Returns:
          uint8 of the leaf's shape for pruned leaves, None for the others.

        Raises:
          UserError: a score is NaN.
        """
        updater = BaseUpdater(counting=self.counting, kernel_axes=self.kernel_axes)
        return updater.create_masks(scores, self.targets)


@dataclasses.dataclass(eq=False, kw_only=True)
class MasksFromData(FixedMasks):
    """Base of criteria that look at data once; a subclass overrides `make_masks`:

        class Taylor(pruning.MasksFromData):
            @classmethod
            def make_masks(cls, inputs):
                gradient = jax.jit(jax.grad(inputs.summed_loss))
                gradients = [gradient(inputs.params, batch) for batch in inputs.make_batches()]
                total = jax.tree.map(lambda *leaves: sum(leaves), *gradients)
                scores = jax.tree.map(lambda w, g: jnp.abs(w * g), inputs.params, total)
                return inputs.keep_largest(scores)

        pruning.register_algorithm("taylor", Taylor)

    A class that chooses the sparsity of each leaf itself sets `is_layerwise = False`, and then
    reaches `inputs.sparsity` over all prunable leaves.
    """

    needs_data: ClassVar[bool] = True

    @classmethod
    def make_masks(cls, inputs: MaskInputs) -> PyTree:
        """Makes the masks. Subclasses override this.

        Args:
          inputs: the dense network, its data, and what the settings say.

        Returns:
          A tree like `inputs.params`: 0 or 1 for each weight of a pruned leaf, None for the others.
        """
        raise NotImplementedError


@dataclasses.dataclass(eq=False, kw_only=True)
class SnipMasks(MasksFromData):
    """Masks by `snip`, with all samples of the training split."""

    is_layerwise: ClassVar[bool] = False

    @classmethod
    def make_masks(cls, inputs: MaskInputs) -> PyTree:
        """Keeps the weights that the loss needs most, in 100 rounds."""
        return snip(
            inputs.summed_loss,
            inputs.params,
            inputs.prunable,
            inputs.sparsity,
            inputs.make_batches(),
            counting=inputs.counting,
        )


@dataclasses.dataclass(eq=False, kw_only=True)
class SynflowMasks(MasksFromData):
    """Masks by `synflow`; the data are not read."""

    is_layerwise: ClassVar[bool] = False

    @classmethod
    def make_masks(cls, inputs: MaskInputs) -> PyTree:
        """Keeps the weights that carry most of the flow, in 100 rounds."""
        return synflow(
            inputs.make_flow(),
            inputs.params,
            inputs.prunable,
            inputs.sparsity,
            counting=inputs.counting,
        )


@dataclasses.dataclass(eq=False, kw_only=True)
class FairgrapeMasks(MasksFromData):
    """Masks by `fairgrape`, with all samples of the training split."""

    @classmethod
    def make_masks(cls, inputs: MaskInputs) -> PyTree:
        """Keeps every group's share of each layer's importance, in one round."""
        return fairgrape(
            inputs.group_loss,
            inputs.params,
            inputs.prunable,
            inputs.targets,
            inputs.make_batches(),
            inputs.num_groups,
            counting=inputs.counting,
            kernel_axes=inputs.kernel_axes,
        )
