"""bap_jax: prune a network under a bound on how much worse any group may fare than the whole.

`prune_and_tune` does the main job on a Flax network and numpy arrays. The rooms of the house
(`constraints`, `lagrangian`, `pruning`, `models`, `data`, `training`, `audit`) can be used alone;
`pipeline` and `sweep` put them together.
"""

from bap_jax.api import Result as Result
from bap_jax.api import prune_and_tune as prune_and_tune
from bap_jax.data.registry import register_dataset as register_dataset
from bap_jax.models import Model as Model
from bap_jax.training.settings import Settings as Settings
from bap_jax.types import UserError as UserError
from bap_jax.types import Variables as Variables
