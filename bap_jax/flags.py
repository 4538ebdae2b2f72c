"""Flags that every command takes: what to run, and how to run it on this machine."""

import functools
import os
import re
import sys

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from bap_jax import compilation, training
from bap_jax.config import check_flags, keys_of_functions, name_hint
from bap_jax.errors import UserError
from bap_jax.training import execution as choices

CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "folder for the results; created if missing")
_EPOCH = flags.DEFINE_enum(
    "epoch",
    "auto",
    choices.EPOCHS,
    "run an epoch as one program on the device, or as a loop over steps",
)
_MEMBERS = flags.DEFINE_enum("members", "auto", choices.MEMBERS, "how the members of a program run")
_CHUNK = flags.DEFINE_integer(
    "chunk", 0, "how many members one program has; 0: as many as fit into memory", lower_bound=0
)
_DEVICES = flags.DEFINE_integer(
    "devices", 0, "how many devices; 0: all accelerators, or one CPU device", lower_bound=0
)
_SPREAD = flags.DEFINE_enum(
    "spread",
    "data",
    choices.SPREADS,
    "what several devices divide among themselves: each batch, or the members",
)
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    "",
    "folder that keeps compiled programs, or none; by default in the user's cache",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder or file that holds the data; sets config.data.dir"
)
_DATA_CACHE = flags.DEFINE_string(
    "data_cache", "", "folder that keeps decoded images; by default data_cache in the workdir"
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first process, for runs over several processes"
)
_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "how many processes take part", lower_bound=1
)
_PROCESS = flags.DEFINE_integer(
    "process_id", None, "the number of this process, from 0", lower_bound=0
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "join the other processes that the cluster's environment describes"
)
_REQUIRED = ("config", "workdir")
# Seconds for which a process that failed waits for the others, which then end as well.
_LAST_WAIT = 20


def execution() -> training.Execution:
    """How programs run, as the flags say.

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
    """The experiment's config, with `--data_dir` in its place."""
    config = CONFIG.value
    if _DATA_DIR.value is not None:
        config.data.dir = _DATA_DIR.value
    if len(config.data.dir) > 1:
        # One spelling, `faces` for `faces/`: runs that share a workdir must agree on it.
        config.data.dir = config.data.dir.rstrip("/")
    return config


def keys_set() -> list[str]:
    """The dotted keys of the config that the command line sets by `--config.KEY=VALUE`."""
    return list(config_flags.get_override_values(flags.FLAGS["config"]))


def workdir() -> str:
    """The folder for the results, a required flag."""
    assert WORKDIR.value is not None, "parse checks that --workdir is given"
    return WORKDIR.value


def start() -> None:
    """Joins the other processes, if there are any, and turns on the cache of compiled programs.

    Raises:
      UserError: only some of the flags that name the processes are given.
    """
    compilation.keep_programs(_CACHE.value)
    # Threads compile programs, too, and do not see `compilation.with_usual_promotion`.
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    address, count, number = _COORDINATOR.value, _PROCESSES.value, _PROCESS.value
    if (address, count, number) == (None, None, None):
        if _DISTRIBUTED.value:
            _join_cluster()
        return
    if address is None or count is None or number is None:
        raise UserError(
            "several processes need all of --coordinator_address=HOST:PORT, --num_processes=N and "
            "--process_id=I; if the cluster's environment knows them, write --distributed alone."
        )
    if number >= count:
        raise UserError(
            f"--process_id must lie in [0, {count - 1}], one for each of the {count} processes; "
            f"got {number}."
        )
    jax.distributed.initialize(address, count, number, shutdown_timeout_seconds=_LAST_WAIT)


def _join_cluster():
    try:
        jax.distributed.initialize(shutdown_timeout_seconds=_LAST_WAIT)
    except ValueError as error:
        raise UserError(
            f"--distributed: the environment describes no cluster ({error}). Write "
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
        sys.exit(f"error: {mistake or f'{error} Pass --help to see the flags.'}")
    if missing := [f"--{name}" for name in _REQUIRED if flags.FLAGS[name].value is None]:
        sys.exit(
            f"error: missing {' and '.join(missing)}. For a first run write "
            "--config=experiments/digits.py --workdir=runs/digits; --help shows all flags."
        )
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    return rest


def _first_mistake(error):
    """The user's mistake in a config file; the libraries of the flags wrap it in tracebacks."""
    mistake = None
    while error is not None:
        if isinstance(error, UserError):
            mistake = error
        elif isinstance(error, TypeError):
            mistake = _function_for_a_name(str(error)) or mistake
        error = error.__context__
    return mistake


def _function_for_a_name(text):
    """What to write, if a config file puts a function where the config has a name."""
    found = re.match(r"Could not override field '(\w+)'", text)
    field = found[1] if found else ""
    keys = keys_of_functions(field)
    if not keys or (field != "method" and "type <class 'function'>" not in text):
        return None
    return f"config.{keys[0]} must be a name. {name_hint(keys[0])}"


def run_main(main) -> None:
    """Runs a command."""
    app.run(functools.partial(_until_stopped, main), flags_parser=parse)


def _until_stopped(main, argv):
    try:
        return main(argv)
    except KeyboardInterrupt:
        print("\nstopped; finished runs are kept.", file=sys.stderr, flush=True)
        os._exit(130)  # an ordinary exit during a compilation is a segmentation fault


def check_no_arguments(argv: list[str]) -> None:
    """Raises an error for arguments that are not flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; write --config.KEY=VALUE")
