"""What may differ between the members of one program: settings that become arrays.

A trainer is built from `Settings` while it is traced, so a setting may itself be a traced number.
Members that differ only in the settings of `SWEPT` share one compiled program; every other setting
shapes the program itself.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bap_jax.pruning.arrays import UpdaterArrays
from bap_jax.training.settings import Settings
from bap_jax.types import Array

# `seed` and `pruning.sparsity` reach a program through its keys and the pruner's arrays.
_NUMBERS = (
    "tolerance",
    "optimizer.learning_rate",
    "dual.learning_rate",
    "dual.start",
    "dual.bound",
    "constraint.kl_limit",
    "constraint.el_bound",
)
SWEPT = ("seed", "pruning.sparsity", *_NUMBERS)


class MemberValues(NamedTuple):
    """The arrays of one member; those of several members have a leading axis.

    Attributes:
      seed: `()` uint32.
      numbers: `()` float32 by the name of its setting.
      pruner: arrays of its pruning updater.
    """

    seed: Array | np.uint32
    numbers: Mapping[str, Array | np.float32]
    pruner: UpdaterArrays


def make_values(settings: Settings, pruner: UpdaterArrays) -> MemberValues:
    """The arrays of one member, on the host."""
    numbers = {name: np.float32(_get(settings, name)) for name in _NUMBERS}
    return MemberValues(np.uint32(settings.seed), numbers, pruner)


def with_values(settings: Settings, values: MemberValues) -> Settings:
    """The settings with the member's numbers in them; seed and sparsity stay as they are."""
    for name, number in values.numbers.items():
        settings = _set(settings, name.split("."), number)
    return settings


def structure_of(settings: Settings) -> Settings:
    """The settings with everything that is swept at its default: equal for members of one program.

    A method given as an object, or a function, counts as the same if it is the same object.

    Example:
      >>> structure_of(Settings(seed=3)) == structure_of(Settings(tolerance=0.1))
      True
      >>> structure_of(Settings("nft")) == structure_of(Settings("ceag"))
      False
    """
    for name in SWEPT:
        settings = _set(settings, name.split("."), _get(Settings(), name))
    return settings


def changed_fields(one: Any, other: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields in which two dataclasses of one type differ, by dotted name.

    Example:
      >>> changed_fields(Settings(seed=1), Settings(batch_size=64))
      {'seed': (1, 0), 'batch_size': (128, 64)}
    """
    changed = {}
    for field in dataclasses.fields(one):
        pair, name = (getattr(one, field.name), getattr(other, field.name)), prefix + field.name
        if dataclasses.is_dataclass(pair[0]):
            changed |= changed_fields(*pair, f"{name}.")
        elif pair[0] != pair[1]:
            changed[name] = pair
    return changed


def _get(settings: Settings, name: str) -> Any:
    value = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _set(settings, path: Sequence[str], value):
    head, *rest = path
    if rest:
        value = _set(getattr(settings, head), rest, value)
    return dataclasses.replace(settings, **{head: value})
