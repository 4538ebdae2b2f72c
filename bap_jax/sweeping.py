"""The former name of `bap_jax.sweep`."""

from bap_jax._deprecated import former_names

__getattr__ = former_names(
    "bap_jax.sweeping",
    {
        "Axis": "bap_jax.sweep.Axis",
        "Member": "bap_jax.sweep.Member",
        "Program": "bap_jax.sweep.ProgramPlan",
        "Sweep": "bap_jax.sweep.Sweep",
        "SweepFolder": "bap_jax.sweep.SweepFolder",
        "WorkerError": "bap_jax.sweep.workers.WorkerError",
        "check_claim": "bap_jax.sweep.folder.check_sweep_folder",
        "check_one_program": "bap_jax.sweep.plan.check_one_program",
        "check_programs": "bap_jax.sweep.runner.check_programs",
        "choose_jobs": "bap_jax.sweep.workers.choose_jobs",
        "claim": "bap_jax.sweep.folder.open_sweep_folder",
        "file_axes": "bap_jax.sweep.axes.file_axes",
        "format_rows": "bap_jax.sweep.format_rows",
        "make_axis": "bap_jax.sweep.axes.make_axis",
        "make_members": "bap_jax.sweep.plan.make_members",
        "make_programs": "bap_jax.sweep.plan.make_programs",
        "make_sweep": "bap_jax.sweep.make_sweep",
        "merge_axes": "bap_jax.sweep.axes.merge_axes",
        "own_cores": "bap_jax.sweep.workers.available_cores",
        "parse_axis": "bap_jax.sweep.axes.parse_axis",
        "parse_worker": "bap_jax.sweep.workers.parse_worker",
        "pieces_left": "bap_jax.sweep.runner.unfinished_programs",
        "pin": "bap_jax.sweep.workers.pin_to_cores",
        "run": "bap_jax.sweep.run_sweep",
        "run_alone": "bap_jax.sweep.runner.run_in_process",
        "run_as_worker": "bap_jax.sweep.workers.run_as_worker",
        "run_workers": "bap_jax.sweep.workers.run_in_workers",
        "say": "bap_jax.sweep.runner.print_progress",
    },
)
