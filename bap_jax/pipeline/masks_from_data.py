"""Masks that are made once, from the dense network and its training split.

settings.pruning.algorithm = snip | synflow | fairgrape
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bap_jax import metrics, pruning, sharding
from bap_jax.data.batches import epoch_indices, example, feed, gather
from bap_jax.models import Model
from bap_jax.pruning import registry
from bap_jax.pruning.sparsity_distributions import filter_from_tree
from bap_jax.training import Settings
from bap_jax.types import Array, Dataset, PyTree, Variables


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
) -> PyTree:
    """Masks at `settings.pruning.sparsity` by a criterion that looks at data or flow.

    Every criterion applies the network in evaluation mode. Groups of several attributes count each
    on its own.

    Args:
      model: the network.
      variables: of the dense network.
      train: the training split, on the device.
      prunable: a bool for each leaf.
      settings: of the run, checked.
      num_groups: all groups of all attributes.
      num_samples: of the data, where these hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch.
    """
    if settings.pruning.algorithm == "synflow":
        return _synflow(model, variables, train, prunable, settings)
    size = train.size if num_samples is None else num_samples
    batches = _batches(train, settings, size, mesh)
    if settings.pruning.algorithm == "snip":
        return _snip(model, variables, batches, prunable, settings)
    return _fairgrape(model, variables, batches, prunable, settings, num_groups)


def _snip(model, variables, batches, prunable, settings):
    losses = _losses(model, variables)

    def loss(params, batch):
        samples, weight = batch
        return (losses(params, samples) * weight).sum()  # so that every sample counts alike

    chosen = settings.pruning
    return pruning.snip(
        loss, variables.params, prunable, chosen.sparsity, batches, counting=chosen.counting
    )


def _synflow(model, variables, train, prunable, settings):
    first = example(train)
    # A running mean, once trained, is subtracted from the flow.
    state = model.init(jax.random.key(settings.seed), first).state

    # What flows are ones on entering the network, whatever is done to stored inputs before.
    network = model.network or model
    ones = jnp.ones_like(first) if network is model else jnp.ones(first.shape, jnp.float32)

    def forward(params):
        return network.apply(Variables(params, state), ones, train=False, key=None)[0].sum()

    chosen = settings.pruning
    return pruning.synflow(
        forward, variables.params, prunable, chosen.sparsity, counting=chosen.counting
    )


def _fairgrape(model, variables, batches, prunable, settings, num_groups):
    losses = _losses(model, variables)

    def loss(params, batch, group):
        samples, weight = batch
        member = (samples.group_ids == group).any(-1)
        return metrics.weighted_mean(losses(params, samples), jnp.where(member, weight, 0))

    chosen = settings.pruning
    targets = registry.find_distribution(chosen.distribution)(
        variables.params, float(chosen.sparsity), filter_from_tree(prunable)
    )
    return pruning.fairgrape(
        loss, variables.params, prunable, targets, batches, num_groups, counting=chosen.counting
    )


def _losses(model: Model, variables: Variables) -> Callable[[PyTree, Dataset], Array]:
    """`(params, samples) -> (batch,)` cross-entropies in evaluation mode."""

    def losses(params, samples):
        variables_now = Variables(params, variables.state)
        logits, _ = model.apply(variables_now, samples.inputs, train=False, key=None)
        return metrics.cross_entropy(logits, samples.labels)

    return losses


def _batches(train, settings, num_samples, mesh) -> list[tuple[Dataset, Array]]:
    """Samples and their weights, all of one size."""
    size = min(settings.batch_size, num_samples)
    order = epoch_indices(jax.random.key(settings.seed), num_samples, size)
    take = jax.jit(lambda batch, indices: gather(batch, sharding.split_batch(indices, mesh)))
    return [take(*pair) for pair in feed(train, order, mesh=mesh)]
