"""python -m bap_jax.sweep --config=experiments/digits.py --workdir=runs/sweep \\
    --sweep=seed=0:8 --sweep=tolerance=0.0,0.01,0.02

Runs every combination of the values of all --sweep=KEY=VALUE,VALUE,… (see `sweep.axes`). Runs that
differ only in array values share one compiled program. Other config keys can be set as for
`bap_jax.main`. If the command is interrupted, run it again to continue. Exit code 0 means that all
runs ended; those that diverged are listed below the table.
"""

import shlex
import sys

import jax
from absl import flags as absl_flags
from ml_collections import config_flags

from bap_jax import data, experiment, flags, sharding, training
from bap_jax.audit.output import print_text
from bap_jax.errors import UserError
from bap_jax.sweep.axes import file_axes, merge_axes, parse_axis
from bap_jax.sweep.folder import SweepFolder, open_sweep_folder
from bap_jax.sweep.plan import check_one_program, check_some_read, make_members, make_programs
from bap_jax.sweep.results import format_rows
from bap_jax.sweep.runner import (
    Sweep,
    check_programs,
    count_members,
    print_progress,
    run_in_process,
    unfinished_programs,
)
from bap_jax.sweep.workers import (
    WorkerError,
    available_cores,
    choose_jobs,
    parse_worker,
    pin_to_cores,
    run_as_worker,
    run_in_workers,
)

absl_flags.adopt_module_key_flags(flags)  # --help lists these flags, too
_SWEEP = absl_flags.DEFINE_multi_string(
    "sweep", [], "KEY=VALUE,VALUE,… or KEY=START:STOP; repeatable"
)
_JOBS = absl_flags.DEFINE_string(
    "jobs", "auto", "how many processes; auto: one for each core, or one on an accelerator"
)
_ONE_PROGRAM = absl_flags.DEFINE_bool(
    "one_program", False, "stop with an error if the members need several programs"
)
_WORKER = absl_flags.DEFINE_string("worker", None, "i/n; set by the sweep for its own processes")


def main(argv: list[str]) -> None:
    """Runs the sweep that the flags describe."""
    flags.check_no_arguments(argv)
    try:
        if _WORKER.value:
            worker = parse_worker(_WORKER.value)
            pin_to_cores(worker)
            flags.start()
            return run_as_worker(_sweep_from_flags(), worker)
        flags.start()
        sweep = _sweep_from_flags()
        warnings: list[str] = []
        rows = _run(sweep, warnings.append)
    except (UserError, training.DivergedError, WorkerError) as error:
        sys.exit(f"error: {error}")
    if sharding.is_first_process():
        _print_results(rows, sweep.folder)
        for text in warnings:
            print_text(f"warning: {text}", sys.stderr)


def _print_results(rows, folder):
    print(format_rows(rows), end="\n\n")
    for name, path in (
        ("rows", folder.results),
        ("table", folder.table),
        ("figure", folder.figure),
    ):
        if path.exists():
            print(f"{name:8}{path}")
    if any(row["report"] for row in rows):
        root = shlex.quote(str(folder.root))
        print(f"verdict python -m bap_jax.compare {root} --out={root}/compare.html")


def _sweep_from_flags():
    config_file = config_flags.get_config_filename(absl_flags.FLAGS["config"])
    axes = merge_axes(file_axes(config_file), [parse_axis(text) for text in _SWEEP.value])
    members = make_members(flags.config(), axes)
    check_some_read(flags.keys_set(), members)
    programs = make_programs(members, training.SWEPT)
    if _ONE_PROGRAM.value:
        check_one_program(programs, training.SWEPT)
    assert flags.WORKDIR.value is not None  # a required flag
    folder = SweepFolder(flags.WORKDIR.value)
    execution = experiment.caching_in(flags.execution(), folder.root)
    return Sweep(members, programs, folder, execution)


def _run(sweep, on_warning):
    unfinished, total = count_members(unfinished_programs(sweep)), len(sweep.members)
    if unfinished < total:
        print_progress(f"{total - unfinished} of {total} members are finished")
    cores, backend = len(available_cores()), jax.default_backend()
    jobs = choose_jobs(_JOBS.value, cores, backend, unfinished, jax.process_count())
    summaries = check_programs(sweep)
    sharding.by_first_process(lambda: open_sweep_folder(sweep.folder.root, sweep.members))
    sharding.by_first_process(lambda: sweep.folder.write_summaries(summaries))
    sharding.by_first_process(lambda: _print_summaries(summaries))
    if jobs == 1:
        return run_in_process(sweep, on_warning=on_warning)
    return run_in_workers(sweep, jobs, [sys.executable, *sys.orig_argv[1:]], on_warning=on_warning)


def _print_summaries(summaries):
    for entry in summaries:
        print(f"data.group_by={entry['data']['group_by']}", file=sys.stderr)
        print(data.format_summary(entry["summary"]), end="\n\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    flags.run_main(main)
