"""Flags that every command takes: what to run, and how on this machine."""

import functools
import os
import sys

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from bap_jax import compilation, training
from bap_jax.config import check_flags
from bap_jax.training import execution as choices
from bap_jax.types import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "where results go; made where missing")
_EPOCH = flags.DEFINE_enum(
    "epoch", "auto", choices.EPOCHS, "an epoch as one program on the device, or a loop over steps"
)
_MEMBERS = flags.DEFINE_enum("members", "auto", choices.MEMBERS, "how the members of a program run")
_CHUNK = flags.DEFINE_integer(
    "chunk", 0, "members of a program; 0: as many as fit into memory", lower_bound=0
)
_DEVICES = flags.DEFINE_integer(
    "devices", 0, "how many; 0: all, but of CPU devices one", lower_bound=0
)
_SPREAD = flags.DEFINE_enum(
    "spread", "data", choices.SPREADS, "what devices share out: each batch, or the members"
)
_CACHE = flags.DEFINE_string(
    "compilation_cache", "", "folder of compiled programs, or none; see the README"
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder or file of the data; config.data.dir")
_DATA_CACHE = flags.DEFINE_string(
    "data_cache", "", "folder of decoded images; by default data_cache in the workdir"
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first of several processes"
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "of a run over several", lower_bound=1)
_PROCESS = flags.DEFINE_integer("process_id", None, "which of them this is", lower_bound=0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "several processes, of which the cluster's environment tells"
)
# Seconds for which a process that failed waits for the others, which then end, too.
_LAST_WAIT = 20


def execution() -> training.Execution:
    """How programs are to run.

    Raises:
      UserError: the flags do not go together.
    """
    return training.Execution(
        epoch=_EPOCH.value,
        members=_MEMBERS.value,
        chunk=_CHUNK.value,
        devices=_DEVICES.value,
        spread=_SPREAD.value,
        data_cache=_DATA_CACHE.value,
    )


def config() -> ConfigDict:
    """The experiment's config with what flags say of it."""
    found = CONFIG.value
    if _DATA_DIR.value is not None:
        found.data.dir = _DATA_DIR.value
    if len(found.data.dir) > 1:
        # One spelling, `faces` for `faces/`: runs that share a workdir must agree in it.
        found.data.dir = found.data.dir.rstrip("/")
    return found


def start() -> None:
    """Joins the other processes, where there are any, and finds the compiled programs.

    Raises:
      UserError: only some of the flags that name the processes are given.
    """
    compilation.keep_programs(_CACHE.value)
    given = (_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    if all(value is None for value in given):
        if _DISTRIBUTED.value:
            _join_cluster()
        return
    if None in given:
        raise UserError(
            "several processes need all of --coordinator_address=HOST:PORT, --num_processes=N and "
            "--process_id=I; where the cluster's environment knows them, write --distributed alone."
        )
    if _PROCESS.value >= _PROCESSES.value:
        raise UserError(
            f"--process_id must lie in [0, {_PROCESSES.value - 1}], one for each of the "
            f"{_PROCESSES.value} processes; got {_PROCESS.value}."
        )
    jax.distributed.initialize(*given, shutdown_timeout_seconds=_LAST_WAIT)


def _join_cluster():
    try:
        jax.distributed.initialize(shutdown_timeout_seconds=_LAST_WAIT)
    except ValueError as error:
        raise UserError(
            f"--distributed: no cluster is known to the environment ({error}). Write "
            "--coordinator_address=HOST:PORT --num_processes=N --process_id=I."
        ) from error


def parse(argv: list[str]) -> list[str]:
    """Checks and parses the command line, for `absl.app.run`."""
    try:
        check_flags(argv[1:])
        rest = flags.FLAGS(argv)
    except UserError as error:
        sys.exit(f"error: {error}")
    except flags.Error as error:
        mistake = _first_mistake(error)
        sys.exit(f"error: {mistake or f'{error} Pass --helpshort to see the flags.'}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    return rest


def _first_mistake(error):
    """The user's mistake that a config file raised; the flags' libraries wrap it in tracebacks."""
    found = None
    while error is not None:
        found = error if isinstance(error, UserError) else found
        error = error.__context__
    return found


def run_main(main) -> None:
    """Runs a command."""
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(functools.partial(_until_stopped, main), flags_parser=parse)


def _until_stopped(main, argv):
    try:
        return main(argv)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept.", file=sys.stderr, flush=True)
        os._exit(130)  # a compilation that is under way would end in a segmentation fault


def check_no_arguments(argv: list[str]) -> None:
    """Finds arguments that are no flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; write --config.NAME=VALUE")
