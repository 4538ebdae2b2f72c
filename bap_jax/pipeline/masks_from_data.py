"""Masks that are made once, from the dense network and its training split.

settings.pruning.algorithm = any whose class declares `needs_data`: snip, synflow, fairgrape, and
whatever a user registers, see `pruning.MasksFromData`.
"""

from collections.abc import Callable, Mapping
from typing import cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bap_jax import metrics, sharding
from bap_jax.data.batches import epoch_indices, example, feed, gather
from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model
from bap_jax.pruning import MaskInputs, MasksFromData, registry
from bap_jax.pruning.data_criteria import SampleLosses, WeightedBatch
from bap_jax.pruning.foresight import Flow
from bap_jax.pruning.sparsity_distributions import filter_from_tree
from bap_jax.training import Settings
from bap_jax.types import Array, Dataset, Params, PyTree, Variables


def make_masks(
    model: Model,
    variables: Variables,
    train: Dataset,
    prunable: PyTree,
    settings: Settings,
    num_groups: int,
    *,
    num_samples: int | None = None,
    mesh: Mesh | None = None,
    criterion: Criterion = CLASSIFICATION,
    kernel_axes: Mapping[str, KernelAxes] | None = None,
) -> PyTree:
    """Masks at `settings.pruning.sparsity` by a criterion that looks at data or flow.

    Every criterion applies the network in evaluation mode. Where there are several attributes,
    each group of each attribute counts separately.

    Args:
      model: the network.
      variables: of the dense network.
      train: the training split, on the device.
      prunable: a bool for each leaf.
      settings: of the run, checked.
      num_groups: number of all groups of all attributes.
      num_samples: number of samples, where arrays hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch.
      criterion: gives the loss of each sample.
      kernel_axes: see `pruning.kernel_axes`; stacked layers then count each by itself.

    Returns:
      A tree like the parameters: 0 or 1 for each weight of a pruned leaf, None for other leaves.

    Raises:
      UserError: the algorithm has no `make_masks`, or the criterion raises it.
    """
    make = find_mask_maker(settings.pruning.algorithm)
    pruning, size = settings.pruning, train.size if num_samples is None else num_samples
    distribution = registry.find_distribution(pruning.distribution)
    sparsity, filter_fn = float(pruning.sparsity), filter_from_tree(prunable)
    inputs = MaskInputs(
        params=variables.params,
        prunable=prunable,
        sparsity=sparsity,
        targets=distribution(variables.params, sparsity, filter_fn, kernel_axes=kernel_axes),
        counting=pruning.counting,
        num_groups=num_groups,
        seed=settings.seed,
        sample_losses=_sample_losses(model, variables, criterion),
        make_batches=lambda: _batches(train, settings, size, mesh),
        make_flow=lambda: _flow(model, train, settings),
        kernel_axes=kernel_axes,
    )
    return make(inputs)


def find_mask_maker(name: str) -> Callable[[MaskInputs], PyTree]:
    """What makes the masks of an algorithm that needs data.

    Raises:
      UserError: the algorithm has no `make_masks`.
    """
    updater = registry.updater_class(name)
    if not hasattr(updater, "make_masks"):
        raise UserError(
            f"{name!r} declares needs_data, but has no make_masks; derive its class "
            f"{updater.__name__} from pruning.MasksFromData."
        )
    return cast(type[MasksFromData], updater).make_masks


def _flow(model, train, settings) -> Flow:
    first = example(train)
    # A running mean, once trained, is subtracted from the flow.
    state = model.init(jax.random.key(settings.seed), first).state

    # The network itself sees an input of ones, whatever is done to stored inputs before it.
    network = model.network or model
    if model.preprocess is not None:
        first = jax.eval_shape(lambda inputs: model.preprocess(inputs, None, False), first)
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), first)

    def forward(params: Params) -> Array:
        return network.apply(Variables(params, state), ones, train=False, key=None)[0].sum()

    return forward


def _sample_losses(model: Model, variables: Variables, criterion: Criterion) -> SampleLosses:
    def losses(params: Params, samples: Dataset) -> Array:
        variables_now = Variables(params, variables.state)
        logits, _ = model.apply(variables_now, samples.inputs, train=False, key=None)
        return metrics.sample_losses(criterion, logits, samples.labels)

    return losses


def _batches(train, settings, num_samples, mesh) -> list[WeightedBatch]:
    """All samples of the training split in random order, in batches of one size."""
    size = min(settings.batch_size, num_samples)
    order = epoch_indices(jax.random.key(settings.seed), num_samples, size)
    take = jax.jit(lambda batch, indices: gather(batch, sharding.split_batch(indices, mesh)))
    return [WeightedBatch(*take(*pair)) for pair in feed(train, order, mesh=mesh)]
