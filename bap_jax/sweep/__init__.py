"""Many runs of one experiment: axes, a plan of members and programs, their folder, the runner.

`run_sweep` runs a sweep from Python and `make_sweep` shows first what it would run. The command is
`python -m bap_jax.sweep`, see `sweep.__main__`.
"""

from bap_jax.sweep.api import make_sweep, run_sweep
from bap_jax.sweep.axes import Axis
from bap_jax.sweep.folder import SweepFolder
from bap_jax.sweep.plan import Member, ProgramPlan
from bap_jax.sweep.results import Row, format_rows
from bap_jax.sweep.runner import Sweep

__all__ = [
    "Axis",
    "Member",
    "ProgramPlan",
    "Row",
    "Sweep",
    "SweepFolder",
    "format_rows",
    "make_sweep",
    "run_sweep",
]
