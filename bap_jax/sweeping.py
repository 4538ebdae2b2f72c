"""The former name of `bap_jax.sweep`."""

from bap_jax._deprecated import former_names

_NAMES = (
    "Axis",
    "Member",
    "Sweep",
    "SweepFolder",
    "WorkerError",
    "check_one_program",
    "check_programs",
    "choose_jobs",
    "file_axes",
    "format_rows",
    "make_axis",
    "make_members",
    "make_programs",
    "make_sweep",
    "merge_axes",
    "own_cores",
    "parse_axis",
    "parse_worker",
    "pieces_left",
    "pin",
    "run_alone",
    "run_as_worker",
    "run_workers",
    "say",
)
_CHANGED = {
    "Program": "bap_jax.sweep.ProgramPlan",
    "check_claim": "bap_jax.sweep.check_sweep_claim",
    "claim": "bap_jax.sweep.claim_sweep",
    "run": "bap_jax.sweep.run_sweep",
}
__getattr__ = former_names(
    "bap_jax.sweeping", {**{name: f"bap_jax.sweep.{name}" for name in _NAMES}, **_CHANGED}
)
