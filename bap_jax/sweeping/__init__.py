"""Many runs of one experiment: axes, a plan of members and programs, their folder, the runner."""

from bap_jax.sweeping.axes import Axis as Axis
from bap_jax.sweeping.axes import file_axes as file_axes
from bap_jax.sweeping.axes import make_axis as make_axis
from bap_jax.sweeping.axes import merge_axes as merge_axes
from bap_jax.sweeping.axes import parse_axis as parse_axis
from bap_jax.sweeping.folder import SweepFolder as SweepFolder
from bap_jax.sweeping.folder import check_claim as check_claim
from bap_jax.sweeping.folder import claim as claim
from bap_jax.sweeping.plan import Member as Member
from bap_jax.sweeping.plan import Program as Program
from bap_jax.sweeping.plan import check_one_program as check_one_program
from bap_jax.sweeping.plan import make_members as make_members
from bap_jax.sweeping.plan import make_programs as make_programs
from bap_jax.sweeping.results import format_rows as format_rows
from bap_jax.sweeping.runner import Sweep as Sweep
from bap_jax.sweeping.runner import check_programs as check_programs
from bap_jax.sweeping.runner import pieces_left as pieces_left
from bap_jax.sweeping.runner import run_alone as run_alone
from bap_jax.sweeping.workers import WorkerError as WorkerError
from bap_jax.sweeping.workers import choose_jobs as choose_jobs
from bap_jax.sweeping.workers import own_cores as own_cores
from bap_jax.sweeping.workers import parse_worker as parse_worker
from bap_jax.sweeping.workers import pin as pin
from bap_jax.sweeping.workers import run_as_worker as run_as_worker
from bap_jax.sweeping.workers import run_workers as run_workers
