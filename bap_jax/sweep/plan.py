"""What a sweep will run: a member for each combination of values, a program for alike members.

axes ─► members: the product of the axes, each a whole config, checked
     ─► programs: members that share everything but array values, compiled once for all
"""

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bap_jax import audit
from bap_jax.config import to_settings
from bap_jax.sweep.axes import Axis
from bap_jax.types import UserError

_LONGEST_LABEL = 120  # file systems allow 255 bytes a name


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      label: its overrides, as `seed=0,tolerance=0.01`.
      overrides: by dotted key, what the axes changed, as plain values.
      plain: its whole config as plain values.
    """

    label: str
    overrides: dict[str, Any]
    plain: dict[str, Any]

    @property
    def name(self) -> str:
        """The label, fit for a file system, and eight hex digits that stand for the config."""
        safe = re.sub(r"[^\w.=,+-]", "_", self.label, flags=re.ASCII)[:_LONGEST_LABEL]
        return f"{safe}-{digest(self.plain)[:8]}"


class ProgramPlan(NamedTuple):
    """Members that differ in array values alone; one compiled program runs them all."""

    members: tuple[Member, ...]


def digest(plain: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, in hex; the order of keys has no say."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def make_members(config: ConfigDict, axes: Sequence[Axis]) -> tuple[Member, ...]:
    """The product of the axes; the last axis varies fastest.

    Args:
      config: what all members share; keys that refer to an axis' key follow it.
      axes: as `merge_axes` returns them.

    Raises:
      UserError: a member's config has a value that no run can have; the message names the member.
    """
    keys = [axis.key for axis in axes]
    products = itertools.product(*(axis.values for axis in axes))
    return tuple(_make_member(config, dict(zip(keys, values, strict=True))) for values in products)


def _make_member(config, overrides):
    changed = copy.deepcopy(config)  # ConfigDict(config) would share references with `config`
    changed.update_from_flattened_dict(overrides)
    label = audit.label(overrides)
    plain = json.loads(changed.to_json())
    try:
        to_settings(plain)
    except UserError as error:
        raise UserError(f"member {label} of the sweep: {error}") from error
    return Member(label, json.loads(json.dumps(overrides)), plain)


def make_programs(members: Sequence[Member], swept: Collection[str]) -> list[ProgramPlan]:
    """Members that share everything but the keys `swept`, together; in order of first appearance.

    Args:
      members: of the sweep.
      swept: dotted keys whose values are arrays of one compiled program.
    """
    found: dict[str, list[Member]] = {}
    for member in members:
        shared = {
            key: value for key, value in flatten_config(member.plain).items() if key not in swept
        }
        found.setdefault(digest(shared), []).append(member)
    return [ProgramPlan(tuple(alike)) for alike in found.values()]


def check_one_program(programs: Sequence[ProgramPlan], swept: Collection[str]) -> None:
    """For those who rely on a single compilation.

    Raises:
      UserError: there are several programs; the message names the keys in which they differ.
    """
    if len(programs) < 2:
        return
    configs = [flatten_config(program.members[0].plain) for program in programs]
    differing = []
    for key in configs[0]:
        values = list(dict.fromkeys(audit.value_label(config[key]) for config in configs))
        if key not in swept and len(values) > 1:
            differing.append(f"{key} ({', '.join(values)})")
    raise UserError(
        f"the sweep takes {len(programs)} programs, for its members differ in "
        f"{'; '.join(differing)}. Leave --one_program away, or let them differ only in "
        f"{', '.join(sorted(swept))}."
    )


def flatten_config(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values by dotted key."""
    found = {}
    for key, value in plain.items():
        below = isinstance(value, Mapping)
        found.update(
            flatten_config(value, f"{prefix}{key}.") if below else {f"{prefix}{key}": value}
        )
    return found
