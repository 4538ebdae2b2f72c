"""Pruners by name, from settings.

algorithm       scores ─ those of `pruning.ALGORITHM_REGISTRY`, and
                channels               whole channels, see `pruning.ChannelPruning`
                snip synflow fairgrape masks made once, from the dense network and its data
distribution    uniform | erk, the sparsity of each leaf
type            unstructured | nm_2,4 | block_4,4 | channel, shapes in which weights go
schedule        gradual | polynomial | one_shot | periodic | none, by epochs
"""

import functools
from collections.abc import Sequence

import jax

from bap_jax import pruning
from bap_jax.pruning import registry, sparsity_types
from bap_jax.pruning import sparsity_schedules as schedules
from bap_jax.pruning.global_pruners import GlobalPruningMixin
from bap_jax.pruning.sparsity_distributions import filter_from_tree
from bap_jax.training.masking import Pruner
from bap_jax.training.settings import PruningSettings
from bap_jax.types import ChannelGroup, PyTree, UserError

FROM_DATA = ("snip", "synflow", "fairgrape")
SCHEDULES = {
    "gradual": lambda chosen: schedules.GradualSchedule(chosen.epochs, chosen.frequency),
    "polynomial": lambda chosen: schedules.PolynomialSchedule(chosen.frequency, 0, chosen.epochs),
    "one_shot": lambda chosen: schedules.OneShotSchedule(0),
    "periodic": lambda chosen: schedules.PeriodicSchedule(chosen.frequency, 0, chosen.epochs),
    "none": lambda chosen: schedules.NoUpdateSchedule(),
}
_SPARSE_FROM_THE_START = ("no_prune", "static_sparse", *FROM_DATA)
_OWN_SCHEDULE = {**dict.fromkeys(_SPARSE_FROM_THE_START, "none"), "set": "periodic"}
_OWN_SCHEDULE["rigl"] = "periodic"


def algorithms() -> tuple[str, ...]:
    """Every name that `pruning.algorithm` may take."""
    return (*pruning.all_algorithm_names(), "channels", *FROM_DATA)


def check_pruning(chosen: PruningSettings) -> None:
    """Finds names that do not exist or do not go together.

    Raises:
      UserError: the message lists the known names.
    """
    _one_of("algorithm", chosen.algorithm, algorithms())
    _one_of("distribution", chosen.distribution, tuple(registry.DISTRIBUTIONS))
    _one_of("schedule", chosen.schedule, ("auto", *SCHEDULES))
    sparsity_types.check_type(sparsity_types.parse(chosen.type))
    algorithm = chosen.algorithm
    from_start = algorithm in _SPARSE_FROM_THE_START
    if from_start and schedule_name(chosen) != "none":
        raise UserError(
            f"{algorithm!r} makes its masks once, before the first step; "
            f"write pruning.schedule='none' or 'auto', not {chosen.schedule!r}."
        )
    masks_every_step = algorithm.endswith("_ste")
    if not (from_start or masks_every_step) and schedule_name(chosen) == "none":
        known = ", ".join(name for name in SCHEDULES if name != "none")
        raise UserError(f"with schedule 'none' {algorithm!r} never prunes; known: {known}.")
    if algorithm in (*FROM_DATA, "channels") and chosen.type != "unstructured":
        raise UserError(
            f"pruning.type {chosen.type!r} does not go with {algorithm!r}; leave it out."
        )
    if chosen.distribution != "uniform" and not _is_layered(algorithm):
        raise UserError(
            f"{algorithm!r} finds each layer's sparsity itself; "
            f"leave out pruning.distribution={chosen.distribution!r}."
        )


def schedule_name(chosen: PruningSettings) -> str:
    """The schedule's name, `auto` resolved."""
    if chosen.schedule != "auto":
        return chosen.schedule
    return _OWN_SCHEDULE.get(chosen.algorithm, "gradual")


def build_pruner(
    chosen: PruningSettings,
    prunable: PyTree,
    *,
    masks: PyTree = None,
    groups: Sequence[ChannelGroup] = (),
    seed: int = 0,
) -> Pruner:
    """The pruner of some settings, which have been checked.

    Args:
      chosen: the settings.
      prunable: a bool for each leaf.
      masks: of algorithms that make them from data.
      groups: of `channels`.
      seed: of what is random.

    Raises:
      UserError: the algorithm cannot prune in the shapes asked for.
    """
    algorithm = chosen.algorithm
    options = {
        "scheduler": SCHEDULES[schedule_name(chosen)](chosen),
        "counting": chosen.counting,
        "rng_seed": seed,
    }
    if algorithm in FROM_DATA:
        return Pruner(pruning.FixedMasks(masks=masks, **options))
    if algorithm == "channels":
        return Pruner(pruning.ChannelPruning(groups=groups, sparsity=chosen.sparsity, **options))
    if algorithm == "no_prune":
        return Pruner(pruning.NoPruning())
    kind = pruning.ALGORITHM_REGISTRY[algorithm]
    filter_fn = filter_from_tree(prunable)
    options["sparsity_type"] = sparsity_types.parse(chosen.type)
    if _is_global(algorithm):
        return Pruner(kind(sparsity=float(chosen.sparsity), filter_fn=filter_fn, **options))
    distribution = functools.partial(
        registry.find_distribution(chosen.distribution),
        sparsity=float(chosen.sparsity),
        filter_fn=filter_fn,
    )
    return Pruner(kind(sparsity_distribution_fn=distribution, **options))


def prunable_groups(
    groups: Sequence[ChannelGroup], params: PyTree, prunable: PyTree
) -> tuple[ChannelGroup, ...]:
    """The groups all of whose producers may be pruned.

    Raises:
      UserError: there is none.
    """
    leaves = zip(pruning.leaf_paths(params), jax.tree.leaves(prunable), strict=True)
    allowed = {path for path, chosen in leaves if chosen}
    found = tuple(group for group in groups if allowed.issuperset(group.producers))
    if not found:
        raise UserError("no group of channels is written by prunable kernels alone.")
    return found


def _is_global(algorithm):
    kind = pruning.ALGORITHM_REGISTRY.get(algorithm)
    return isinstance(kind, type) and issubclass(kind, GlobalPruningMixin)


def _is_layered(algorithm):
    return not _is_global(algorithm) and algorithm not in ("snip", "synflow", "channels")


def _one_of(name, value, known):
    if value not in known:
        raise UserError(f"unknown pruning.{name} {value!r}; known: {', '.join(known)}.")
