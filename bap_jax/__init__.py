"""bap_jax: prunes a network under a bound on how much worse any group may fare than the whole.

`prune_and_tune` does this for a Flax network and numpy arrays. The packages `constraints`,
`lagrangian`, `pruning`, `models`, `data`, `training` and `audit` can also be used separately;
`pipeline` and `sweep` put them together. `register_criterion`, `register_dataset`,
`register_method`, `register_optimizer`, `register_pruner`, `register_schedule` and
`register_scheme` make your own data sets and functions known by name.

Everything is imported when it is first used, so that a part that needs no JAX does not load it.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bap_jax.api import Result, prune_and_tune
    from bap_jax.data.registry import register_dataset
    from bap_jax.errors import UserError
    from bap_jax.lagrangian import register_scheme
    from bap_jax.metrics import register_criterion
    from bap_jax.models import Model
    from bap_jax.pruning import register_algorithm as register_pruner
    from bap_jax.training import (
        Settings,
        register_method,
        register_optimizer,
        register_schedule,
    )
    from bap_jax.types import Variables

__all__ = [
    "Model",
    "Result",
    "Settings",
    "UserError",
    "Variables",
    "prune_and_tune",
    "register_criterion",
    "register_dataset",
    "register_method",
    "register_optimizer",
    "register_pruner",
    "register_schedule",
    "register_scheme",
]

# For each public name its module, and its name there.
_FOUND_IN = {
    "Model": ("models", "Model"),
    "Result": ("api", "Result"),
    "Settings": ("training", "Settings"),
    "UserError": ("errors", "UserError"),
    "Variables": ("types", "Variables"),
    "prune_and_tune": ("api", "prune_and_tune"),
    "register_criterion": ("metrics", "register_criterion"),
    "register_dataset": ("data.registry", "register_dataset"),
    "register_method": ("training", "register_method"),
    "register_optimizer": ("training", "register_optimizer"),
    "register_pruner": ("pruning", "register_algorithm"),
    "register_schedule": ("training", "register_schedule"),
    "register_scheme": ("lagrangian", "register_scheme"),
}
_MODULES = frozenset(module.name for module in pkgutil.iter_modules(__path__))


def __getattr__(name: str) -> Any:
    if name in _FOUND_IN:
        module, attribute = _FOUND_IN[name]
        value = getattr(importlib.import_module(f"bap_jax.{module}"), attribute)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"bap_jax.{name}")
    raise AttributeError(f"module 'bap_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
