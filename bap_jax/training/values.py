"""What may differ between members of one program: settings that are arrays.

A trainer is built from `Settings` while it is traced, so a setting may itself be a traced number.
Members that differ only in the settings of `SWEPT` share one compiled program; of everything else
the program's structure depends.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bap_jax.pruning.arrays import UpdaterArrays
from bap_jax.training.settings import Settings
from bap_jax.types import Array

# Beside `seed` and `pruning.sparsity`, which reach a program through keys and the pruner's arrays.
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
    """The arrays of a member; of several members with a leading axis.

    Attributes:
      seed: `()` uint32.
      numbers: `()` float32 by the name of its setting.
      pruner: arrays of its pruning updater.
    """

    seed: Array
    numbers: dict[str, Array]
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
    """The settings with all that is swept at one value: equal for members of one program."""
    for name in SWEPT:
        settings = _set(settings, name.split("."), _get(Settings(), name))
    return settings


def _get(settings, name):
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def _set(settings, path: Sequence[str], value):
    head, *rest = path
    if rest:
        value = _set(getattr(settings, head), rest, value)
    return dataclasses.replace(settings, **{head: value})
