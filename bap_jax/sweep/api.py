"""A sweep from Python."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bap_jax import experiment, sharding, task, training
from bap_jax.sweep.axes import make_axis, merge_axes
from bap_jax.sweep.folder import SweepFolder, claim_sweep
from bap_jax.sweep.plan import make_members, make_programs
from bap_jax.sweep.results import Row
from bap_jax.sweep.runner import Sweep, check_programs, run_alone, say

_ALL_DEVICES = training.Execution(devices=0)


def make_sweep(
    config: ConfigDict,
    workdir: str | Path,
    axes: Mapping[str, Sequence[Any] | str],
    execution: training.Execution = _ALL_DEVICES,
) -> Sweep:
    """A sweep over all combinations of values.

    Args:
      config: what the members share.
      workdir: folder of the sweep, see `sweep.folder`.
      axes: values by dotted key of the config; a text as on the command line, such as `"0:8"`.
      execution: how programs run on this machine.

    Raises:
      UserError: an unknown key, no value, a value of the wrong type, or one that no run can have.
    """
    execution = experiment.caching_in(execution, Path(workdir))
    given = [make_axis(key, values) for key, values in axes.items()]
    members = make_members(config, merge_axes((), given))
    programs = make_programs(members, training.SWEPT)
    return Sweep(members, programs, SweepFolder(workdir), experiment.Session, execution)


def run_sweep(
    config: ConfigDict,
    workdir: str | Path,
    axes: Mapping[str, Sequence[Any] | str],
    execution: training.Execution = _ALL_DEVICES,
    say: Callable[[str], None] = say,
) -> list[Row]:
    """Runs a sweep in this process, or what is left of it; see `make_sweep`.

    Args:
      config, workdir, axes, execution: as of `make_sweep`.
      say: takes a line of progress after each chunk.

    Returns:
      `{"config": overrides, "report": …}` for each member, as in `sweep.json`.

    Raises:
      UserError: as of `make_sweep`, a mistake in the data, or the workdir holds something else.
    """
    sweep = make_sweep(config, workdir, axes, execution)
    check_programs(sweep, functools.partial(task.check_task, execution=sweep.execution))
    sharding.by_first_process(lambda: claim_sweep(workdir, sweep.members))
    return run_alone(sweep, say)
