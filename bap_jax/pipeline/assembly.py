"""From settings to the parts of a run: which weights may be pruned, the pruner, the trainer."""

from jax.sharding import Mesh

from bap_jax import lagrangian, training
from bap_jax.data.batches import example
from bap_jax.metrics import CLASSIFICATION, Criterion
from bap_jax.models import Model, channel_groups, kernel_order
from bap_jax.pipeline.masks_from_data import make_masks
from bap_jax.pruning import registry
from bap_jax.pruning.filters import Kernel, prunable_leaves
from bap_jax.pruning.structured import prunable_groups
from bap_jax.training import Settings
from bap_jax.training.optimizer_checks import check_dual_optimizer, check_primal_optimizer
from bap_jax.training.optimizers import primal_optimizer
from bap_jax.trees import leaf_paths
from bap_jax.types import Dataset, Params, PyTree, Variables


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
    paths = leaf_paths(variables.params)
    uses = kernel_order(model, variables, inputs)
    kernels = [Kernel(paths[use.leaf], use.convolution) for use in uses]
    return prunable_leaves(settings.pruning.prunable, variables.params, kernels)


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
    prunable = find_prunable(model, variables, example(train), settings)
    updater, masks, groups = registry.updater_class(settings.pruning.algorithm), None, ()
    if updater.needs_data:
        masks = make_masks(
            model,
            variables,
            train,
            prunable,
            settings,
            num_groups,
            num_samples=num_samples,
            mesh=mesh,
            criterion=criterion,
        )
    if updater.needs_channel_groups:
        groups = prunable_groups(channel_groups(model), variables.params, prunable)
    return training.build_pruner(
        settings.pruning, prunable, masks=masks, groups=groups, seed=settings.seed
    )
