"""What a sweep will run: a member for each combination of values, grouped into programs.

axes ─► members: the product of the axes; each is a whole config, and checked
     ─► programs: members that differ only in array values, compiled once for all of them
"""

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bap_jax.config import to_settings
from bap_jax.config_identity import deciding
from bap_jax.errors import UserError
from bap_jax.reporting.sweep_rows import format_setting, format_value
from bap_jax.sweep.axes import Axis
from bap_jax.training.dual_rules import check_is_read
from bap_jax.workdir import flatten_config

_LONGEST_LABEL = 120  # file systems allow 255 bytes a name


class Member(NamedTuple):
    """One run of a sweep.

    Attributes:
      label: its overrides as text, such as `seed=0,tolerance=0.01`.
      overrides: the values that the axes set, as plain values by dotted key.
      plain: its whole config as plain values.
    """

    label: str
    overrides: dict[str, Any]
    plain: dict[str, Any]

    @property
    def name(self) -> str:
        """The label as a file name, then eight hex digits of the digest of what decides results."""
        safe = re.sub(r"[^\w.=,+-]", "_", self.label, flags=re.ASCII)[:_LONGEST_LABEL]
        return f"{safe}-{digest(deciding(self.plain))[:8]}"


class ProgramPlan(NamedTuple):
    """Members that differ only in array values; one compiled program runs them all."""

    members: tuple[Member, ...]


def digest(plain: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, in hex; it does not depend on the order of the keys.

    Example:
      >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
      True
    """
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def make_members(config: ConfigDict, axes: Sequence[Axis]) -> tuple[Member, ...]:
    """The product of the axes; the last axis varies fastest.

    Args:
      config: what all members share. Keys that refer to a key of an axis follow its value.
      axes: as `merge_axes` returns them.

    Raises:
      UserError: a member's config has an invalid value, or does not read that of an axis; the
        message names the member.

    Example:
      >>> from bap_jax.config import default_config
      >>> axes = [Axis("tolerance", (0.0, 0.01)), Axis("seed", (0, 1))]
      >>> [member.label for member in make_members(default_config(), axes)][:2]
      ['tolerance=0.0,seed=0', 'tolerance=0.0,seed=1']
    """
    keys = [axis.key for axis in axes]
    products = itertools.product(*(axis.values for axis in axes))
    return tuple(_make_member(config, dict(zip(keys, values, strict=True))) for values in products)


def _make_member(config, overrides):
    changed = copy.deepcopy(config)  # ConfigDict(config) would share references with `config`
    changed.update_from_flattened_dict(overrides)
    label = format_setting(overrides)
    plain = json.loads(changed.to_json())
    try:
        settings = to_settings(plain)
        for key in overrides:
            check_is_read(key, settings)
    except UserError as error:
        raise UserError(f"member {label} of the sweep: {error}") from error
    return Member(label, json.loads(json.dumps(overrides)), plain)


def check_some_read(keys: Collection[str], members: Sequence[Member]) -> None:
    """Checks that what the command line sets has an effect on a member.

    Args:
      keys: dotted keys of the config.
      members: the members of the sweep.

    Raises:
      UserError: no member reads one of the keys.
    """
    settings = [to_settings(member.plain) for member in members]
    for key in keys:
        mistakes = []
        for one in settings:
            try:
                check_is_read(key, one)
            except UserError as error:
                mistakes.append(error)
        if settings and len(mistakes) == len(settings):
            raise mistakes[0]


def make_programs(members: Sequence[Member], swept: Collection[str]) -> list[ProgramPlan]:
    """Groups members that share everything but the keys `swept`.

    Args:
      members: the members of the sweep.
      swept: dotted keys whose values are arrays of a compiled program.

    Returns:
      The programs, in the order in which their first members appear.
    """
    programs: dict[str, list[Member]] = {}
    for member in members:
        values = flatten_config(deciding(member.plain))
        shared = {key: value for key, value in values.items() if key not in swept}
        programs.setdefault(digest(shared), []).append(member)
    return [ProgramPlan(tuple(alike)) for alike in programs.values()]


def check_one_program(programs: Sequence[ProgramPlan], swept: Collection[str]) -> None:
    """Checks that a sweep compiles a single program.

    Raises:
      UserError: it needs several; the message names the keys in which they differ.
    """
    if len(programs) < 2:
        return
    configs = [flatten_config(program.members[0].plain) for program in programs]
    differing = []
    for key in configs[0]:
        values = list(dict.fromkeys(format_value(config[key]) for config in configs))
        if key not in swept and len(values) > 1:
            differing.append(f"{key} ({', '.join(values)})")
    raise UserError(
        f"the sweep needs {len(programs)} programs, because its members differ in "
        f"{'; '.join(differing)}. Leave out --one_program, or vary only "
        f"{', '.join(sorted(swept))}."
    )
