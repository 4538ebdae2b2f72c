"""Pruners from settings.

algorithm       a registered name, see `pruning.algorithm_names` and `pruning.register_algorithm`
distribution    uniform | erk, the sparsity of each leaf
type            unstructured | nm_2,4 | block_4,4 | channel, shapes in which weights go
schedule        gradual | polynomial | one_shot | periodic | none, by epochs

The class of an algorithm declares what it allows and what `auto` means (`pruning.declarations`).
"""

import functools
from collections.abc import Collection, Mapping, Sequence

from bap_jax.errors import UserError
from bap_jax.kernel_uses import KernelAxes
from bap_jax.pruning import BaseUpdater, registry, sparsity_types
from bap_jax.pruning import sparsity_schedules as schedules
from bap_jax.pruning.declarations import UpdaterOptions
from bap_jax.pruning.sparsity_distributions import filter_from_tree
from bap_jax.training.masking import Pruner
from bap_jax.training.settings import PruningSettings
from bap_jax.types import ChannelGroup, PyTree

SCHEDULES = {
    "gradual": lambda pruning: schedules.GradualSchedule(pruning.epochs, pruning.frequency),
    "polynomial": lambda pruning: schedules.PolynomialSchedule(
        pruning.frequency, 0, pruning.epochs
    ),
    "one_shot": lambda pruning: schedules.OneShotSchedule(0),
    "periodic": lambda pruning: schedules.PeriodicSchedule(pruning.frequency, 0, pruning.epochs),
    "none": lambda pruning: schedules.NoUpdateSchedule(),
}


def check_pruning(settings: PruningSettings) -> None:
    """Raises an error for names that are unknown or do not go together.

    Raises:
      UserError: the message says what to write, or lists the known names.
    """
    algorithm = settings.algorithm
    check_known("pruning.algorithm", algorithm, registry.algorithm_names())
    check_known("pruning.distribution", settings.distribution, tuple(registry.DISTRIBUTIONS))
    check_known("pruning.schedule", settings.schedule, ("auto", *SCHEDULES))
    sparsity_types.check_type(sparsity_types.parse(settings.type))
    _check_schedule(settings)
    updater = registry.updater_class(algorithm)
    if not updater.takes_sparsity_type and settings.type != "unstructured":
        raise UserError(
            f"pruning.type {settings.type!r} does not go with {algorithm!r}; leave it out."
        )
    if not updater.is_layerwise and settings.distribution != "uniform":
        raise UserError(
            f"{algorithm!r} finds each layer's sparsity itself; "
            f"leave out pruning.distribution={settings.distribution!r}."
        )


def schedule_name(settings: PruningSettings) -> str:
    """The schedule's name, where `auto` is what the algorithm declares."""
    if settings.schedule != "auto":
        return settings.schedule
    return registry.updater_class(settings.algorithm).default_schedule


def build_pruner(
    settings: PruningSettings,
    prunable: PyTree,
    *,
    masks: PyTree = None,
    groups: Sequence[ChannelGroup] = (),
    seed: int = 0,
    kernel_axes: Mapping[str, KernelAxes] | None = None,
) -> Pruner:
    """The pruner of some settings, which have been checked.

    Args:
      settings: the settings.
      prunable: a bool for each leaf.
      masks: made from data, for algorithms that need these.
      groups: prunable groups of channels, for algorithms that need these.
      seed: of everything random.
      kernel_axes: see `pruning.kernel_axes`.

    Raises:
      UserError: the algorithm cannot prune in the given shapes.
    """
    filter_fn = filter_from_tree(prunable)
    distribution = functools.partial(
        registry.find_distribution(settings.distribution),
        sparsity=float(settings.sparsity),
        filter_fn=filter_fn,
    )
    options = UpdaterOptions(
        sparsity=float(settings.sparsity),
        distribution=distribution,
        filter_fn=filter_fn,
        sparsity_type=sparsity_types.parse(settings.type),
        scheduler=SCHEDULES[schedule_name(settings)](settings),
        counting=settings.counting,
        rng_seed=seed,
        masks=masks,
        groups=groups,
    )
    updater = registry.make_updater(settings.algorithm, options)
    if isinstance(updater, BaseUpdater) and updater.kernel_axes is None:
        updater.kernel_axes = kernel_axes
    return Pruner(updater)


def _check_schedule(settings):
    algorithm, schedule = settings.algorithm, schedule_name(settings)
    updater = registry.updater_class(algorithm)
    check_known(f"default_schedule of {algorithm!r}", updater.default_schedule, tuple(SCHEDULES))
    makes_masks_once = updater.default_schedule == "none"
    if makes_masks_once and schedule != "none":
        raise UserError(
            f"{algorithm!r} makes its masks once, before the first step; "
            f"write pruning.schedule='none' or 'auto', not {settings.schedule!r}."
        )
    if schedule == "none" and not (makes_masks_once or updater.is_straight_through):
        known = ", ".join(name for name in SCHEDULES if name != "none")
        raise UserError(f"with schedule 'none' {algorithm!r} never prunes; known: {known}.")


def check_known(name: str, value: str, known: Collection[str]) -> None:
    """Raises an error for an unknown name.

    Raises:
      UserError: `value` is not among the known names, which the message lists.
    """
    if value not in known:
        raise UserError(f"unknown {name} {value!r}; known: {', '.join(known)}.")
