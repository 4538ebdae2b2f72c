"""jaxpruner's `api`: algorithms by name, and updaters from configs."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from bap_jax.pruning import jaxpruner_api as _engine
from bap_jax.pruning import registry as _registry
from bap_jax.pruning import sparsity_types as _types
from bap_jax.pruning.jaxpruner import (
    algorithms,
    base_updater,
    sparsity_distributions,
    sparsity_schedules,
    sparsity_types,
)

_OWN: dict[str, Callable[..., Any]] = {
    "no_prune": base_updater.NoPruning,
    "magnitude": algorithms.MagnitudePruning,
    "random": algorithms.RandomPruning,
    "saliency": algorithms.SaliencyPruning,
    "magnitude_ste": algorithms.SteMagnitudePruning,
    "random_ste": algorithms.SteRandomPruning,
    "global_magnitude": algorithms.GlobalMagnitudePruning,
    "global_saliency": algorithms.GlobalSaliencyPruning,
    "static_sparse": algorithms.StaticRandomSparse,
    "rigl": algorithms.RigL,
    "set": algorithms.SET,
}


class _Registry(MutableMapping[str, Callable[..., Any]]):
    """jaxpruner's algorithms, and those that users have registered, here or for settings."""

    def __init__(self):
        self._own = dict(_OWN)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in self._own:
            return self._own[name]
        if name not in self._registered():
            raise KeyError(name)
        return _registry.find_algorithm(name)

    def __setitem__(self, name: str, algorithm: Callable[..., Any]) -> None:
        # What settings call by a name of the package's own stays what it is.
        if name in _registry.BUILT_IN:
            self._own[name] = algorithm
        else:
            _registry.register_algorithm(name, algorithm)

    def __delitem__(self, name: str) -> None:
        if name in self._own:
            del self._own[name]
        else:
            _registry.unregister_algorithm(name)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._own, *self._registered()))

    def __len__(self) -> int:
        return len(self._own) + len(self._registered())

    def __repr__(self):
        return f"ALGORITHM_REGISTRY({', '.join(self)})"

    def _registered(self):
        return [name for name in _registry.algorithm_names() if name not in _registry.BUILT_IN]


ALGORITHM_REGISTRY = _Registry()
ALGORITHMS = tuple(ALGORITHM_REGISTRY)


def _own_type(kind):
    """A type that a config names, with the axes that it has here."""
    if isinstance(kind, _types.NByM):
        return sparsity_types.NByM(kind.n, kind.m)
    if isinstance(kind, _types.Channel):
        return sparsity_types.Channel(-1 if kind.axis is None else kind.axis)
    if isinstance(kind, _types.Block):
        return sparsity_types.Block(kind.block_shape, kind.use_avg_pooling)
    return kind


_LIBRARY = _engine.Library(
    ALGORITHM_REGISTRY,
    {"uniform": sparsity_distributions.uniform, "erk": sparsity_distributions.erk},
    sparsity_schedules.PolynomialSchedule,
    _own_type,
)


def all_algorithm_names() -> tuple[str, ...]:
    """Every name that `create_updater_from_config` knows."""
    return tuple(ALGORITHM_REGISTRY)


def register_algorithm(algorithm_name: str, algorithm: Callable[..., Any]) -> None:
    """Makes an algorithm known by name, for configs of this module and for settings of runs."""
    ALGORITHM_REGISTRY[algorithm_name] = algorithm


def create_updater_from_config(sparsity_config: Mapping[str, Any]) -> Any:
    """An updater from jaxpruner's config; `pruning.create_updater_from_config` lists the keys.

    Raises:
      UserError: an unknown algorithm, distribution, type or key; the message lists the known ones.
    """
    return _engine.updater_from_config(sparsity_config, _LIBRARY)
