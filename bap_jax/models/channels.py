"""Which channels of a network can only be removed together.

A module says so with two methods, which a user's own module may have as well:

    channel_groups() -> tuple[ChannelGroup, ...]
    with_channels(widths: Mapping[str, int]) -> the same module with other widths, by group name

`bap_jax.models.compact` needs the second one, for Linen modules only.
"""

from collections.abc import Mapping
from typing import Any

from bap_jax.errors import UserError
from bap_jax.models.base import Model
from bap_jax.types import ChannelGroup


def channel_groups(module: Any) -> tuple[ChannelGroup, ...]:
    """The groups of channels in a network.

    Args:
      module: `MLP`, `ResNet`, any module with a method `channel_groups()`, or a `Model` of one.

    Raises:
      UserError: the module has no such method.
    """
    if isinstance(module, Model) and module.module is not None:
        module = module.module
    method = getattr(module, "channel_groups", None)
    if not callable(method):
        raise UserError(
            f"{type(module).__name__} does not say which of its channels belong together. Write a "
            "method channel_groups(self) on the module that returns a tuple of bap_jax.types."
            "ChannelGroup(name, producers, vectors, states, consumers), or pass groups=(...,) "
            "to functions that take it."
        )
    groups: Any = method()
    return tuple(groups)


def check_names(module: Any, widths: Mapping[str, int]) -> None:
    """Checks that widths are given only for groups that the module has.

    Args:
      module: with a method `channel_groups()`.
      widths: number of channels by name of group.

    Raises:
      UserError: a name is unknown; the message lists the known ones.
    """
    known = [group.name for group in module.channel_groups()]
    for name in widths:
        if name not in known:
            raise UserError(f"unknown channel group {name!r}; known groups: {', '.join(known)}.")
