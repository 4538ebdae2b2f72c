"""bap_jax: prunes a network under a bound on how much worse any group may fare than the whole.

`prune_and_tune` does this for a Flax network and numpy arrays. The packages `constraints`,
`lagrangian`, `pruning`, `models`, `data`, `training` and `audit` can also be used separately;
`pipeline` and `sweep` put them together. `register_dataset`, `register_method`, `register_pruner`
and `register_scheme` make your own data sets and functions known by name.
"""

from bap_jax.api import Result, prune_and_tune
from bap_jax.data.registry import register_dataset
from bap_jax.lagrangian import register_scheme
from bap_jax.models import Model
from bap_jax.pruning import register_algorithm as register_pruner
from bap_jax.training import Settings, register_method
from bap_jax.types import UserError, Variables

__all__ = [
    "Model",
    "Result",
    "Settings",
    "UserError",
    "Variables",
    "prune_and_tune",
    "register_dataset",
    "register_method",
    "register_pruner",
    "register_scheme",
]
