"""Algorithms by name, and updaters from a config: jaxpruner's `api`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from bap_jax.pruning import (
    base_updater,
    global_pruners,
    layerwise_pruners,
    sparse_trainers,
    sparsity_distributions,
    sparsity_types,
    ste,
)
from bap_jax.pruning import sparsity_schedules as schedules
from bap_jax.types import UserError

ALGORITHM_REGISTRY: dict[str, Callable[..., Any]] = {
    "no_prune": base_updater.NoPruning,
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
}
ALGORITHMS = tuple(ALGORITHM_REGISTRY)
DISTRIBUTIONS = {"uniform": sparsity_distributions.uniform, "erk": sparsity_distributions.erk}
_OF_SCHEDULE = ("update_freq", "update_start_step", "update_end_step")
_OF_DISTRIBUTION = ("sparsity", "filter_fn", "custom_sparsity_map")


def all_algorithm_names() -> tuple[str, ...]:
    """Every name that `create_updater_from_config` knows."""
    return tuple(ALGORITHM_REGISTRY)


def register_algorithm(algorithm_name: str, algorithm: Callable[..., Any]) -> None:
    """Makes an algorithm of one's own known by name; a name in use then means the new one."""
    ALGORITHM_REGISTRY[algorithm_name] = algorithm


def create_updater_from_config(sparsity_config: Mapping[str, Any]) -> Any:
    """An updater from jaxpruner's config.

    Args:
      sparsity_config: a mapping with
        `algorithm`: one of `all_algorithm_names()`;
        `dist_type`: `uniform` or `erk`; unused by the global algorithms;
        `sparsity`: a float in [0, 1);
        `update_start_step`, `update_end_step`, `update_freq`: without a start the masks are never
        formed anew; where start and end are equal, once; else by the polynomial schedule;
        `sparsity_type`: see `sparsity_types.KNOWN`, or an instance;
        `filter_fn`, `custom_sparsity_map`: of the distribution;
        `drop_fraction`: initial share that `set` and `rigl` exchange, .1;
        and whatever else the algorithm takes.

    Raises:
      UserError: an unknown algorithm, distribution, type or key; the message lists the known.
    """
    config = {key: sparsity_config[key] for key in sparsity_config}
    config = {key: value for key, value in config.items() if value is not None}
    if "algorithm" not in config:
        raise UserError(f"the config has no algorithm; known: {', '.join(ALGORITHM_REGISTRY)}.")
    name = config.pop("algorithm")
    if name not in ALGORITHM_REGISTRY:
        raise UserError(
            f"unknown algorithm {name!r}; known: {', '.join(ALGORITHM_REGISTRY)}. "
            "Add your own with register_algorithm(name, class)."
        )
    if name == "no_prune":
        return base_updater.NoPruning()
    if "sparsity" not in config:
        raise UserError("the config has no sparsity; write for instance sparsity = 0.9.")
    sparsity_distributions.check_sparsity(config["sparsity"])
    algorithm = ALGORITHM_REGISTRY[name]
    fraction = config.pop("drop_fraction", 0.1)
    if name in ("rigl", "set"):
        steps = config.get("update_end_step") or 1
        config["drop_fraction_fn"] = optax.cosine_decay_schedule(fraction, steps)
    config["scheduler"] = _schedule({key: config.pop(key, None) for key in _OF_SCHEDULE})
    kind = config.pop("sparsity_type", None)
    if kind:
        config["sparsity_type"] = sparsity_types.parse(kind) if isinstance(kind, str) else kind
    distribution = find_distribution(config.pop("dist_type", "uniform"))
    is_global = isinstance(algorithm, type) and issubclass(
        algorithm, global_pruners.GlobalPruningMixin
    )
    if not is_global:
        options = {key: config.pop(key) for key in _OF_DISTRIBUTION if key in config}
        config["sparsity_distribution_fn"] = functools.partial(distribution, **options)
    _check_fields(name, algorithm, config)
    return algorithm(**config)


def find_distribution(name: str) -> Callable[..., Any]:
    """The distribution called `name`.

    Raises:
      UserError: the name is unknown.
    """
    if name not in DISTRIBUTIONS:
        raise UserError(f"unknown dist_type {name!r}; known: {', '.join(DISTRIBUTIONS)}.")
    return DISTRIBUTIONS[name]


def _schedule(config):
    start, end = config["update_start_step"], config["update_end_step"]
    if start is None:
        return schedules.NoUpdateSchedule()
    if start == end:
        return schedules.OneShotSchedule(target_step=end)
    for key in ("update_freq", "update_end_step"):
        if config[key] is None:
            raise UserError(f"a config with update_start_step also needs {key}.")
    return schedules.PolynomialSchedule(config["update_freq"], start, end)


def _check_fields(name, algorithm, config):
    if not dataclasses.is_dataclass(algorithm):
        return
    known = [field.name for field in dataclasses.fields(algorithm)]
    for key in config:
        if key not in known:
            raise UserError(
                f"unknown key {key!r} for algorithm {name!r}; known: {', '.join(known)}."
            )
