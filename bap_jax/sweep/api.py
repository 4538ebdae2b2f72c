"""A sweep from Python."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bap_jax import experiment, sharding, training
from bap_jax._deprecated import warn
from bap_jax.sweep.axes import make_axis, merge_axes
from bap_jax.sweep.folder import SweepFolder, open_sweep_folder
from bap_jax.sweep.plan import make_members, make_programs
from bap_jax.sweep.results import Row
from bap_jax.sweep.runner import Sweep, check_programs, print_progress, run_in_process

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
      axes: values by dotted key of the config, as a sequence or as text like `"0:8"`.
      execution: how programs run on this machine.

    Raises:
      UserError: an unknown key, an axis without values, a value of the wrong type, or one that is
        invalid for a run.

    Example:
      >>> from bap_jax.config import default_config
      >>> sweep = make_sweep(default_config(), "runs/seeds", {"seed": "0:3", "method": ["ceag"]})
      >>> [member.label for member in sweep.members]
      ['seed=0,method=ceag', 'seed=1,method=ceag', 'seed=2,method=ceag']
      >>> len(sweep.programs)
      1
    """
    execution = experiment.caching_in(execution, Path(workdir))
    merged = merge_axes((), [make_axis(key, values) for key, values in axes.items()])
    members = make_members(config, merged)
    programs = make_programs(members, training.SWEPT)
    return Sweep(members, programs, SweepFolder(workdir), execution)


def run_sweep(
    config: ConfigDict,
    workdir: str | Path,
    axes: Mapping[str, Sequence[Any] | str],
    execution: training.Execution = _ALL_DEVICES,
    on_progress: Callable[[str], None] = print_progress,
    say: Callable[[str], None] | None = None,
) -> list[Row]:
    """Runs a sweep in this process, or what is left of it.

    Args:
      config, workdir, axes, execution: see `make_sweep`.
      on_progress: receives a line of text after each chunk of members.
      say: former name of `on_progress`.

    Returns:
      `{"config": overrides, "report": …}` for each member, as in `sweep.json`.

    Raises:
      UserError: see `make_sweep`; or the data have a mistake, or the workdir belongs to something
        else.
    """
    if say is not None:
        warn("run_sweep(say=…)", "run_sweep(on_progress=…)")
        on_progress = say
    sweep = make_sweep(config, workdir, axes, execution)
    summaries = check_programs(sweep)
    sharding.by_first_process(lambda: open_sweep_folder(workdir, sweep.members))
    sharding.by_first_process(lambda: sweep.folder.write_summaries(summaries))
    return run_in_process(sweep, on_progress)
