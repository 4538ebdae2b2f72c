"""jaxpruner's functions: updaters from configs, and summaries of trees.

A config can make classes of this package or, by `pruning.jaxpruner`, those with jaxpruner's
defaults. Names here are the algorithms that a config can make; `pruning.algorithm_names` also lists
those that need a network's channels or data.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bap_jax.errors import UserError
from bap_jax.pruning import registry, sparsity_distributions, sparsity_types
from bap_jax.pruning import sparsity_schedules as schedules
from bap_jax.pruning.masks import apply_mask
from bap_jax.pruning.registry import register_algorithm
from bap_jax.pruning.sparsity_types import SparsityType
from bap_jax.trees import leaf_paths
from bap_jax.types import Array, PyTree

__all__ = [
    "ALGORITHMS",
    "ALGORITHM_REGISTRY",
    "all_algorithm_names",
    "apply_mask",
    "create_updater_from_config",
    "register_algorithm",
    "summarize_intersection",
    "summarize_sparsity",
]

_OF_SCHEDULE = ("update_freq", "update_start_step", "update_end_step")
_OF_DISTRIBUTION = ("sparsity", "filter_fn", "custom_sparsity_map")


class _Registry(MutableMapping[str, Callable[..., Any]]):
    """The algorithms of `pruning.registry` that `create_updater_from_config` can make."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in iter(self):
            raise KeyError(name)
        return registry.find_algorithm(name)

    def __setitem__(self, name: str, algorithm: Callable[..., Any]) -> None:
        register_algorithm(name, algorithm)

    def __delitem__(self, name: str) -> None:
        registry.unregister_algorithm(name)

    def __iter__(self) -> Iterator[str]:
        for name in registry.algorithm_names():
            updater = registry.updater_class(name)
            if not (updater.needs_data or updater.needs_channel_groups):
                yield name

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Library(NamedTuple):
    """What the names in a config stand for.

    Attributes:
      algorithms: by name.
      distributions: by name.
      polynomial: class of the schedule that rises.
      own_type: makes the library's sparsity type of one of this package's.
    """

    algorithms: Mapping[str, Callable[..., Any]]
    distributions: Mapping[str, Callable[..., Any]]
    polynomial: Callable[..., Any]
    own_type: Callable[[SparsityType], SparsityType]


ALGORITHM_REGISTRY = _Registry()
ALGORITHMS = tuple(ALGORITHM_REGISTRY)
_OURS = Library(
    ALGORITHM_REGISTRY, registry.DISTRIBUTIONS, schedules.PolynomialSchedule, lambda kind: kind
)


def all_algorithm_names() -> tuple[str, ...]:
    """Every name that `create_updater_from_config` knows."""
    return tuple(ALGORITHM_REGISTRY)


def create_updater_from_config(sparsity_config: Mapping[str, Any]) -> Any:
    """An updater from jaxpruner's config.

    Args:
      sparsity_config: a mapping with
        `algorithm`: one of `all_algorithm_names()`;
        `dist_type`: `uniform` or `erk`; unused by the global algorithms;
        `sparsity`: a float in [0, 1);
        `update_start_step`, `update_end_step`, `update_freq`: without a start, masks never change;
        where start and end are equal, they change once; else by the polynomial schedule;
        `sparsity_type`: see `sparsity_types.KNOWN`, or an instance;
        `filter_fn`, `custom_sparsity_map`: arguments of the distribution;
        `drop_fraction`: initial share of weights that `set` and `rigl` exchange, .1;
        and any other argument of the algorithm.

    Raises:
      UserError: an unknown algorithm, distribution, type or key; the message lists the known ones.

    Example:
      >>> config = {"algorithm": "magnitude", "sparsity": 0.5}
      >>> pruned, _ = create_updater_from_config(config).instant_sparsify(jnp.array([[1.0, -2.0]]))
      >>> pruned.tolist()
      [[0.0, -2.0]]
    """
    return updater_from_config(sparsity_config, _OURS)


def updater_from_config(sparsity_config: Mapping[str, Any], library: Library) -> Any:
    """As `create_updater_from_config`, with what the names stand for."""
    config = {key: sparsity_config[key] for key in sparsity_config}
    config = {key: value for key, value in config.items() if value is not None}
    if "algorithm" not in config:
        raise UserError(f"the config has no algorithm; known: {', '.join(library.algorithms)}.")
    name = config.pop("algorithm")
    algorithm = _find_algorithm(name, library)
    updater = registry.class_of(algorithm)
    if not updater.has_sparsity:
        return algorithm()
    distribution = _find_distribution(config.pop("dist_type", "uniform"), library)
    if "sparsity" not in config:
        raise UserError("the config has no sparsity; write for instance sparsity = 0.9.")
    sparsity_distributions.check_sparsity(config["sparsity"])
    fraction = config.pop("drop_fraction", 0.1)
    if "drop_fraction_fn" in inspect.signature(algorithm).parameters:
        steps = config.get("update_end_step") or 1
        config["drop_fraction_fn"] = optax.cosine_decay_schedule(fraction, steps)
    steps = {key: config.pop(key, None) for key in _OF_SCHEDULE}
    config["scheduler"] = _schedule(steps, library)
    if isinstance(config.get("sparsity_type"), str):
        config["sparsity_type"] = _parse_type(config["sparsity_type"], library)
    if updater.is_layerwise:
        options = {key: config.pop(key) for key in _OF_DISTRIBUTION if key in config}
        config["sparsity_distribution_fn"] = functools.partial(distribution, **options)
    _check_arguments(name, algorithm, config)
    return algorithm(**config)


def summarize_sparsity(param_tree: PyTree, only_total_sparsity: bool = False) -> dict[str, Array]:
    """Shares of zeros in any tree.

    In parameters it also counts zeros of biases, and zeros that no mask made; in masks, what the
    masks remove from the leaves that have one.

    Args:
      param_tree: parameters or masks (not packed).
      only_total_sparsity: whether to leave out the single leaves.

    Returns:
      `_total_sparsity`, `_nparams_nnz`, `_nparams` and, by path, the share of each leaf.
    """
    leaves = jax.tree.leaves(param_tree)
    left = [jnp.count_nonzero(leaf) for leaf in leaves]
    summary: dict[str, Any] = {}
    if not only_total_sparsity:
        for path, count, leaf in zip(leaf_paths(param_tree), left, leaves, strict=True):
            summary[path] = 1 - jnp.float32(count) / jnp.float32(max(jnp.size(leaf), 1))
    nonzero = sum((jnp.float32(count) for count in left), jnp.float32(0))
    size = jnp.float32(sum(jnp.size(leaf) for leaf in leaves))
    summary["_total_sparsity"] = 1 - nonzero / jnp.maximum(size, 1)
    return summary | {"_nparams_nnz": nonzero, "_nparams": size}


def summarize_intersection(
    mask_tree1: PyTree, mask_tree2: PyTree, only_total_intersection: bool = False
) -> dict[str, Array]:
    """Of the weights that the first masks keep, the share that the second masks keep, too.

    Args:
      mask_tree1, mask_tree2: masks of one structure.
      only_total_intersection: whether to leave out the single leaves.

    Returns:
      `_total_intersection` and, by path, the share of each leaf.
    """
    pairs = zip(jax.tree.leaves(mask_tree1), jax.tree.leaves(mask_tree2), strict=True)
    counts = [
        (jnp.sum((first == 1) & (second == 1)), jnp.sum(first == 1)) for first, second in pairs
    ]
    summary: dict[str, Any] = {}
    if not only_total_intersection:
        for path, (both, first) in zip(leaf_paths(mask_tree1), counts, strict=True):
            summary[path] = both / jnp.maximum(first, 1)
    both, first = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    summary["_total_intersection"] = jnp.asarray(both / jnp.maximum(first, 1))
    return summary


# These messages begin as jaxpruner's do, because callers look for that.


def _find_algorithm(name, library):
    if name not in library.algorithms:
        raise UserError(
            f"Sparsity algorithm {name} is not supported: unknown algorithm {name!r}; "
            f"known: {', '.join(library.algorithms)}. These are "
            "jaxpruner.all_algorithm_names(); add your own with register_algorithm(name, class)."
        )
    return library.algorithms[name]


def _find_distribution(name, library):
    if name not in library.distributions:
        raise UserError(
            f"dist_type: {name} is not supported: unknown dist_type {name!r}; "
            f"known: {', '.join(library.distributions)}."
        )
    return library.distributions[name]


def _parse_type(text, library):
    try:
        return library.own_type(sparsity_types.parse(text))
    except UserError as error:
        raise UserError(f"Sparsity type {text} is not supported: {error}") from None


def _schedule(config, library):
    start, end = config["update_start_step"], config["update_end_step"]
    if start is None:
        return schedules.NoUpdateSchedule()
    if start == end:
        return schedules.OneShotSchedule(target_step=end)
    for key in ("update_freq", "update_end_step"):
        if config[key] is None:
            raise UserError(f"a config with update_start_step also needs {key}.")
    return library.polynomial(config["update_freq"], start, end)


def _check_arguments(name, algorithm, config):
    known = inspect.signature(algorithm).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for key in config:
        if key not in known:
            raise UserError(
                f"unknown key {key!r} for algorithm {name!r}; known: {', '.join(known)}."
            )
