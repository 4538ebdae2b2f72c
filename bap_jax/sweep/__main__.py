"""python -m bap_jax.sweep --config=experiments/digits.py --workdir=runs/sweep \\
    --sweep=seed=0:8 --sweep=tolerance=0.0,0.01,0.02

Runs every combination of the values of all --sweep=KEY=VALUE,VALUE,… (see `sweep.axes`); those
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

from bap_jax import data, experiment, flags, sharding, sweep, task, training
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
            worker = sweep.parse_worker(_WORKER.value)
            sweep.pin(worker)
            flags.start()
            return sweep.run_as_worker(_plan(), worker)
        flags.start()
        rows = _run(_plan())
    except (UserError, training.DivergedError, sweep.WorkerError) as error:
        sys.exit(f"error: {error}")
    folder = sweep.SweepFolder(flags.WORKDIR.value)
    if sharding.is_first_process():
        _print(rows, folder)


def _print(rows, folder):
    print(sweep.format_rows(rows), end="\n\n")
    for what, path in (
        ("rows", folder.results),
        ("table", folder.table),
        ("figure", folder.figure),
    ):
        if path.exists():
            print(f"{what:8}{path}")


def _plan():
    file = config_flags.get_config_filename(absl_flags.FLAGS["config"])
    axes = [sweep.parse_axis(text) for text in _SWEEP.value]
    axes = sweep.merge_axes(sweep.file_axes(file), axes)
    members = sweep.make_members(flags.config(), axes)
    programs = sweep.make_programs(members, training.SWEPT)
    if _ONE.value:
        sweep.check_one_program(programs, training.SWEPT)
    folder = sweep.SweepFolder(flags.WORKDIR.value)
    execution = experiment.caching_in(flags.execution(), folder.root)
    return sweep.Sweep(members, programs, folder, experiment.Session, execution)


def _tell(summaries, folder):
    if summaries:
        write_whole(folder.summaries, json.dumps(summaries, indent=1) + "\n")
    for told in summaries:
        print(f"data.group_by={told['data']['group_by']}", file=sys.stderr)
        print(data.format_summary(told["summary"]), end="\n\n", file=sys.stderr, flush=True)


def _run(planned):
    left = sweep.pieces_left(planned)
    cores, backend = len(sweep.own_cores()), jax.default_backend()
    count = sum(map(len, left))
    if count < len(planned.members):
        sweep.say(f"{len(planned.members) - count} of {len(planned.members)} members are finished")
    jobs = sweep.choose_jobs(_JOBS.value, cores, backend, count, jax.process_count())
    check = functools.partial(task.check_task, execution=planned.execution)
    summaries = sweep.check_programs(planned, check)
    sharding.by_first_process(lambda: sweep.claim_sweep(flags.WORKDIR.value, planned.members))
    sharding.by_first_process(lambda: _tell(summaries, planned.folder))
    if jobs == 1:
        return sweep.run_alone(planned)
    return sweep.run_workers(planned, jobs, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    flags.run_main(main)
