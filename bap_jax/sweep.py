"""python -m bap_jax.sweep --config=experiments/digits.py --workdir=runs/sweep \\
    --sweep=seed=0:8 --sweep=tolerance=0.0,0.01,0.02

Runs every combination of the values of all --sweep=KEY=VALUE,VALUE,… (see `sweeping.axes`); those
that differ in array values alone are one compiled program. Anything else in the config can be set
as for `bap_jax.main`. The same command goes on where it was cut off. Exit code 0 means that all
runs ended, by divergence perhaps; the table names those.
"""

import functools
import json
import sys

import jax
from absl import flags as absl_flags
from ml_collections import config_flags

from bap_jax import data, experiment, flags, sharding, sweeping, task, training
from bap_jax.types import UserError
from bap_jax.workdir import write_whole

_SWEEP = absl_flags.DEFINE_multi_string(
    "sweep", [], "KEY=VALUE,VALUE,… or KEY=START:STOP; repeatable"
)
_JOBS = absl_flags.DEFINE_string("jobs", "auto", "processes; auto: one an accelerator, or by cores")
_ONE = absl_flags.DEFINE_bool("one_program", False, "an error if members need several programs")
_WORKER = absl_flags.DEFINE_string("worker", None, "i/n: set by the sweep for its own processes")


def main(argv: list[str]) -> None:
    """Runs the sweep of the flags."""
    flags.check_no_arguments(argv)
    try:
        if _WORKER.value:
            worker = sweeping.parse_worker(_WORKER.value)
            sweeping.pin(worker)
            flags.start()
            return sweeping.run_as_worker(_plan(), worker)
        flags.start()
        rows = _run(_plan())
    except (UserError, training.DivergedError, sweeping.WorkerError) as error:
        sys.exit(f"error: {error}")
    folder = sweeping.SweepFolder(flags.WORKDIR.value)
    if sharding.is_first_process():
        _print(rows, folder)


def _print(rows, folder):
    print(sweeping.format_rows(rows), end="\n\n")
    for what, path in (
        ("rows", folder.results),
        ("table", folder.table),
        ("figure", folder.figure),
    ):
        if path.exists():
            print(f"{what:8}{path}")


def _plan():
    file = config_flags.get_config_filename(absl_flags.FLAGS["config"])
    axes = [sweeping.parse_axis(text) for text in _SWEEP.value]
    axes = sweeping.merge_axes(sweeping.file_axes(file), axes)
    members = sweeping.make_members(flags.config(), axes)
    programs = sweeping.make_programs(members, training.SWEPT)
    if _ONE.value:
        sweeping.check_one_program(programs, training.SWEPT)
    folder = sweeping.SweepFolder(flags.WORKDIR.value)
    execution = experiment.caching_in(flags.execution(), folder.root)
    return sweeping.Sweep(members, programs, folder, experiment.Bench, execution)


def _tell(summaries, folder):
    if summaries:
        write_whole(folder.summaries, json.dumps(summaries, indent=1) + "\n")
    for told in summaries:
        print(f"data.group_by={told['data']['group_by']}", file=sys.stderr)
        print(data.format_summary(told["summary"]), end="\n\n", file=sys.stderr, flush=True)


def _run(sweep):
    left = sweeping.pieces_left(sweep)
    cores, backend = len(sweeping.own_cores()), jax.default_backend()
    count = sum(map(len, left))
    if count < len(sweep.members):
        sweeping.say(f"{len(sweep.members) - count} of {len(sweep.members)} members are finished")
    jobs = sweeping.choose_jobs(_JOBS.value, cores, backend, count, jax.process_count())
    check = functools.partial(task.check, execution=sweep.execution)
    summaries = sweeping.check_programs(sweep, check)
    sharding.by_first_process(lambda: sweeping.claim(flags.WORKDIR.value, sweep.members))
    sharding.by_first_process(lambda: _tell(summaries, sweep.folder))
    if jobs == 1:
        return sweeping.run_alone(sweep)
    return sweeping.run_workers(sweep, jobs, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    flags.run(main)
