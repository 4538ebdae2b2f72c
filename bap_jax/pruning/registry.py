"""Algorithms and distributions by name: the one place that settings and configs look in.

    pruning.register_algorithm("mine", MyUpdater)       then `pruning.algorithm="mine"`

What settings allow and how they make an updater is up to its class, see `pruning.declarations`.
"""

import functools
from collections.abc import Callable
from typing import Any

from bap_jax.errors import UserError
from bap_jax.pruning import (
    channel_pruning,
    data_criteria,
    global_pruners,
    layerwise_pruners,
    no_pruning,
    sparse_trainers,
    sparsity_distributions,
    ste,
)
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.declarations import UpdaterOptions

_ALGORITHMS: dict[str, Callable[..., Any]] = {
    "no_prune": no_pruning.NoPruning,
    "magnitude": layerwise_pruners.MagnitudePruning,
    "random": layerwise_pruners.RandomPruning,
    "saliency": layerwise_pruners.SaliencyPruning,
    "magnitude_ste": ste.SteMagnitudePruning,
    "random_ste": ste.SteRandomPruning,
    "global_magnitude": global_pruners.GlobalMagnitudePruning,
    "global_saliency": global_pruners.GlobalSaliencyPruning,
    "static_sparse": sparse_trainers.StaticRandomSparse,
    "rigl": sparse_trainers.RigL,
    "set": sparse_trainers.SET,
    "channels": channel_pruning.ChannelPruning,
    "snip": data_criteria.SnipMasks,
    "synflow": data_criteria.SynflowMasks,
    "fairgrape": data_criteria.FairgrapeMasks,
}
BUILT_IN = tuple(_ALGORITHMS)
DISTRIBUTIONS = {"uniform": sparsity_distributions.uniform, "erk": sparsity_distributions.erk}


def algorithm_names() -> tuple[str, ...]:
    """Every name that `pruning.algorithm` may take, in the order of registration."""
    return tuple(_ALGORITHMS)


def register_algorithm(algorithm_name: str, algorithm: Callable[..., Any]) -> None:
    """Makes an algorithm known by name; a name that is in use then means the new one.

    Args:
      algorithm_name: for `pruning.algorithm` in settings and configs, and for
        `create_updater_from_config`.
      algorithm: a subclass of `BaseUpdater`, such a class with some arguments filled in by
        `functools.partial`, or a function that takes the arguments of
        `BaseUpdater.constructor_arguments` and returns an updater.

    Example:
      >>> from bap_jax import pruning
      >>> class SquaredWeights(pruning.MagnitudePruning):
      ...     def calculate_scores(self, params, sparse_state=None, grads=None):
      ...         return self.removed_last(jax.tree.map(jnp.square, params), sparse_state)
      >>> pruning.register_algorithm("squares", SquaredWeights)
      >>> "squares" in pruning.algorithm_names()
      True
      >>> unregister_algorithm("squares")
    """
    _ALGORITHMS[algorithm_name] = algorithm


def unregister_algorithm(algorithm_name: str) -> None:
    """Forgets a name; raises `KeyError` where it is unknown."""
    del _ALGORITHMS[algorithm_name]


def find_algorithm(name: str) -> Callable[..., Any]:
    """What was registered under a name.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in _ALGORITHMS:
        raise UserError(
            f"unknown algorithm {name!r}; known: {', '.join(_ALGORITHMS)}. "
            "Add your own with register_algorithm(name, class)."
        )
    return _ALGORITHMS[name]


def updater_class(name: str) -> type[BaseUpdater]:
    """The class whose attributes describe an algorithm; `BaseUpdater` for a plain function."""
    return class_of(find_algorithm(name))


def class_of(algorithm: Callable[..., Any]) -> type[BaseUpdater]:
    """The class of what was registered, see `updater_class`."""
    while isinstance(algorithm, functools.partial):
        algorithm = algorithm.func
    if isinstance(algorithm, type) and issubclass(algorithm, BaseUpdater):
        return algorithm
    return BaseUpdater


def make_updater(name: str, options: UpdaterOptions) -> Any:
    """The updater that a name and the settings of a run describe.

    Raises:
      UserError: the name is unknown, or the class raises it.
    """
    return find_algorithm(name)(**updater_class(name).constructor_arguments(options))


def find_distribution(name: str) -> Callable[..., Any]:
    """The distribution called `name`.

    Raises:
      UserError: the name is unknown; the message lists the known ones.
    """
    if name not in DISTRIBUTIONS:
        raise UserError(f"unknown dist_type {name!r}; known: {', '.join(DISTRIBUTIONS)}.")
    return DISTRIBUTIONS[name]
