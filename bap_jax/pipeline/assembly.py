"""From settings to the parts of a run: which weights may be pruned, the pruner, the trainer."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from bap_jax import lagrangian, training
from bap_jax.data.batches import example
from bap_jax.kernel_uses import KernelAxes, axes_by_path
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model, channel_groups, kernel_order
from bap_jax.pipeline.masks_from_data import find_mask_maker, make_masks
from bap_jax.pruning import BaseUpdater, registry
from bap_jax.pruning.filters import Kernel, prunable_leaves
from bap_jax.pruning.structured import prunable_groups
from bap_jax.training import Settings
from bap_jax.training.masking import initial_masks
from bap_jax.training.optimizer_checks import check_dual_optimizer, check_primal_optimizer
from bap_jax.training.optimizers import primal_optimizer
from bap_jax.trees import leaf_paths
from bap_jax.types import Dataset, Params, PyTree, Variables


class PrunableKernels(NamedTuple):
    """Which parameters of a network may be pruned, and what their axes do.

    Attributes:
      prunable: a bool for each parameter leaf.
      axes: see `pruning.kernel_axes`.
    """

    prunable: PyTree
    axes: Mapping[str, KernelAxes]


def find_kernels(
    model: Model, variables: Variables, inputs: PyTree, settings: Settings
) -> PrunableKernels:
    """Reads the kernels of a network; arguments and errors as in `find_prunable`."""
    paths = leaf_paths(variables.params)
    uses = kernel_order(model, variables, inputs)
    kernels = [Kernel(paths[use.leaf], use.convolution) for use in uses]
    prunable = prunable_leaves(settings.pruning.prunable, variables.params, kernels)
    return PrunableKernels(prunable, axes_by_path(paths, uses))


def find_prunable(model: Model, variables: Variables, inputs: PyTree, settings: Settings) -> PyTree:
    """A bool for each parameter leaf, as `settings.pruning.prunable` chooses.

    Args:
      model: the network.
      variables: of the network.
      inputs: `(sample, ...)` any inputs of the network; only their shapes matter.
      settings: of the run.

    Raises:
      UserError: a path is unknown, or nothing is left to prune.
    """
    return find_kernels(model, variables, inputs, settings).prunable


def check_optimizers(settings: Settings, params: Params) -> None:
    """Raises an error if an optimiser of `settings` cannot move these weights, or the multipliers.

    Args:
      settings: of the run, checked.
      params: the weights; only their shapes matter.

    Raises:
      UserError: see `training.optimizer_checks`.
    """
    check_primal_optimizer(settings.optimizer, params)
    check_dual_optimizer(settings.dual)


def trainer_from_settings(
    model: Model,
    method: training.Method,
    pruner: training.Pruner,
    settings: Settings,
    steps_per_epoch: int,
    criterion: Criterion = CLASSIFICATION,
) -> training.Trainer:
    """The trainer of one run.

    Args:
      model: the network.
      method: what is minimised, and which constraints must hold.
      pruner: when and how masks change.
      settings: of the run, checked; numbers that `training.SWEPT` names may be traced.
      steps_per_epoch: for the schedule of the step size.
      criterion: loss and correctness of each sample.
    """
    scheme = lagrangian.build_scheme(
        settings.scheme,
        primal_optimizer(settings.optimizer, settings.epochs, steps_per_epoch),
        method.formulation,
        weight_limit=settings.dual.weight_limit,
        overall_term=settings.constraint.overall_term,
    )
    first = settings.constraint.first_epoch
    return training.make_trainer(
        model,
        scheme,
        method.constraint,
        pruner,
        objective=method.objective,
        constrained_from=None if first < 0 else first,
        criterion=criterion,
    )


def pruner_from_settings(
    model: Model,
    variables: Variables,
    train: Dataset,
    settings: Settings,
    num_groups: int,
    *,
    num_samples: int | None = None,
    mesh: Mesh | None = None,
    criterion: Criterion = CLASSIFICATION,
) -> training.Pruner:
    """The pruner of one run. Some algorithms make their masks here, from the dense network.

    Args:
      model: the network.
      variables: of the dense network.
      train: the training split, as the steps use it.
      settings: of the run, checked.
      num_groups: number of all groups of all attributes.
      num_samples: number of samples, where arrays hold more rows, see `sharding.place_samples`.
      mesh: devices that share the samples of a batch.
      criterion: its losses are what criteria of pruning see.

    Raises:
      UserError: nothing is left to prune, or the algorithm cannot prune this network.
    """
    kernels = find_kernels(model, variables, example(train), settings)
    updater, masks = registry.updater_class(settings.pruning.algorithm), None
    if updater.needs_data:
        masks = make_masks(
            model,
            variables,
            train,
            kernels.prunable,
            settings,
            num_groups,
            num_samples=num_samples,
            mesh=mesh,
            criterion=criterion,
            kernel_axes=kernels.axes,
        )
    return _pruner(model, variables, kernels, settings, masks)


def check_pruner_settings(
    model: Model, variables: Variables, inputs: PyTree, settings: Settings
) -> None:
    """Checks all that the settings of a pruner and the shapes of a network decide.

    Args:
      model: the network.
      variables: of the network, trained or not.
      inputs: `(sample, ...)` any inputs of the network; only their shape matters.
      settings: of the run, checked.

    Raises:
      UserError: nothing is left to prune, or the algorithm cannot prune this network in these
        shapes; the message names the tensor.
    """
    kernels = find_kernels(model, variables, inputs, settings)
    params, masks = variables.params, None
    if registry.updater_class(settings.pruning.algorithm).needs_data:
        find_mask_maker(settings.pruning.algorithm)
        pairs = zip(jax.tree.leaves(kernels.prunable), jax.tree.leaves(params), strict=True)
        flat = [np.ones(leaf.shape, np.uint8) if chosen else None for chosen, leaf in pairs]
        masks = jax.tree.unflatten(jax.tree.structure(params), flat)
    pruner = _pruner(model, variables, kernels, settings, masks)
    if isinstance(pruner.updater, BaseUpdater):
        pruner.updater.check_shapes(params)
    jax.eval_shape(lambda params: initial_masks(pruner, params), params)


def _pruner(model, variables, kernels, settings, masks):
    groups = ()
    if registry.updater_class(settings.pruning.algorithm).needs_channel_groups:
        groups = prunable_groups(channel_groups(model), variables.params, kernels.prunable)
    return training.build_pruner(
        settings.pruning,
        kernels.prunable,
        masks=masks,
        groups=groups,
        seed=settings.seed,
        kernel_axes=kernels.axes,
    )
