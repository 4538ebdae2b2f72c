"""Flax Linen modules as `Model`s."""

import inspect
from typing import Any

from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.types import Variables

# Keywords that switch a module to training, and whether their meaning is reversed.
_TRAIN_KEYWORDS = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "use_running_average": True,
}


def from_linen(module: nn.Module) -> Model:
    """Wraps a Linen module.

    The module's `__call__` takes the inputs and, if it behaves differently in training, one of the
    keywords `train`, `training`, `is_training`, `deterministic` or `use_running_average`.
    """
    parameters = inspect.signature(module.__call__).parameters
    keywords = [name for name in _TRAIN_KEYWORDS if name in parameters]

    def mode(train) -> Any:
        return {name: train != _TRAIN_KEYWORDS[name] for name in keywords}

    def init(key, inputs):
        return split(module.init(key, inputs, **mode(False)))

    def apply(variables, inputs, *, train=False, key=None):
        rngs = {"dropout": key} if key is not None else None
        collections = {"params": variables.params, **variables.state}
        mutable = list(variables.state) if train else False
        out: Any = module.apply(collections, inputs, rngs=rngs, mutable=mutable, **mode(train))
        return out if train else (out, variables.state)

    return Model(init, apply, join, module)


def split(collections) -> Variables:
    """The variable dict of a Linen module as `Variables`.

    Raises:
      UserError: there is no `params` collection.
    """
    if not hasattr(collections, "keys") or "params" not in collections:
        raise UserError(
            "expected Linen variables with a 'params' collection, such as module.init returns; "
            f"got {_describe(collections)}. Write variables={{'params': params}}."
        )
    state = {name: collections[name] for name in collections if name != "params"}
    return Variables(collections["params"], state)


def join(variables: Variables):
    """The variable dict of a Linen module."""
    return {"params": variables.params, **variables.state}


def _describe(value) -> str:
    return f"keys {sorted(value)}" if hasattr(value, "keys") else type(value).__name__
