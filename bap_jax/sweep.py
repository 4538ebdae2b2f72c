"""python -m bap_jax.sweep --config=experiments/digits.py --workdir=runs/sweep \\
    --sweep=seed=0:8 --sweep=tolerance=0.0,0.01,0.02

Runs every combination of the values of all --sweep=KEY=VALUE,VALUE,… (see `sweeping.axes`); those
that differ in array values alone are one compiled program. Anything else in the config can be set
as for `bap_jax.main`. The same command goes on where it was cut off. Exit code 0 means that all
runs ended, by divergence perhaps; the table names those.
"""

import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from bap_jax import experiment, sweeping, training
from bap_jax.config import check_flags
from bap_jax.types import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the sweep; made where missing")
_SWEEP = flags.DEFINE_multi_string("sweep", [], "KEY=VALUE,VALUE,… or KEY=START:STOP; repeatable")
_JOBS = flags.DEFINE_string("jobs", "auto", "processes; auto: one an accelerator, or by cores")
_ONE = flags.DEFINE_bool("one_program", False, "an error if more than one program is compiled")
_CHUNK = flags.DEFINE_integer("chunk", 0, "members at once; 0: as many as fit", lower_bound=0)
_EPOCH = flags.DEFINE_enum(
    "epoch", "auto", ["auto", "device", "loop"], "who counts an epoch's steps"
)
_MEMBERS = flags.DEFINE_enum(
    "members", "auto", ["auto", "vmap", "map", "single"], "how the members of a chunk run"
)
_SPREAD = flags.DEFINE_enum("spread", "data", ["data", "members"], "what several devices share")
_WORKER = flags.DEFINE_string("worker", None, "i/n: set by the sweep for its own processes")


def main(argv: list[str]) -> None:
    """Runs the sweep of the flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; write --config.NAME=VALUE")
    try:
        if _WORKER.value:
            worker = sweeping.parse_worker(_WORKER.value)
            sweeping.pin(worker)
            return sweeping.run_as_worker(_plan(), worker)
        rows = _run(_plan())
    except (UserError, training.DivergedError, sweeping.WorkerError) as error:
        sys.exit(f"error: {error}")
    folder = sweeping.SweepFolder(_WORKDIR.value)
    print(sweeping.format_rows(rows), end="\n\n")
    for what, path in (
        ("rows", folder.results),
        ("table", folder.table),
        ("figure", folder.figure),
    ):
        if path.exists():
            print(f"{what:8}{path}")


def _plan():
    file = config_flags.get_config_filename(flags.FLAGS["config"])
    axes = [sweeping.parse_axis(text) for text in _SWEEP.value]
    axes = sweeping.merge_axes(sweeping.file_axes(file), axes)
    members = sweeping.make_members(_CONFIG.value, axes)
    programs = sweeping.make_programs(members, training.SWEPT)
    if _ONE.value:
        sweeping.check_one_program(programs, training.SWEPT)
    execution = training.Execution(_EPOCH.value, _MEMBERS.value, _CHUNK.value, _SPREAD.value)
    folder = sweeping.SweepFolder(_WORKDIR.value)
    return sweeping.Sweep(members, programs, folder, experiment.Bench, execution)


def _run(sweep):
    left = sweeping.pieces_left(sweep)
    cores, backend = len(sweeping.own_cores()), jax.default_backend()
    jobs = sweeping.choose_jobs(_JOBS.value, cores, backend, sum(map(len, left)))
    sweeping.check_programs(sweep, experiment.check)
    sweeping.claim(_WORKDIR.value)
    if jobs == 1:
        return sweeping.run_alone(sweep)
    return sweeping.run_workers(sweep, jobs, [sys.executable, *sys.orig_argv[1:]])


def _parse(argv):
    try:
        check_flags(argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    rest = app.parse_flags_with_usage(argv)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    return rest


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)
