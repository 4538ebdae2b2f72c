"""Commands within the process of the tests: a process of its own would take seconds to start."""

import sys
import warnings
from collections.abc import Callable
from unittest import mock

from absl import logging
from absl.testing import flagsaver

from bap_jax import flags


def error_of(main: Callable[[list[str]], None], *arguments: str) -> str:
    """The text with which a command ends; what it would print in front of it is left out.

    Args:
      main: of the command's module, such as `bap_jax.main.main`.
      arguments: of the command line.

    Raises:
      AssertionError: the command ends well.
      Exception: whatever the command does not turn into a text; users would see a traceback.
    """
    try:
        run_command(main, *arguments)
    except SystemExit as end:
        assert isinstance(end.code, str), f"ended with exit code {end.code} and no text"
        return end.code  # which Python prints, with exit code 1
    raise AssertionError("the command ended without an error")


def run_command(main: Callable[[list[str]], None], *arguments: str) -> None:
    """Runs a command with these arguments; flags are restored afterwards."""
    verbosity = logging.get_verbosity()
    try:
        with (
            flagsaver.as_parsed(),  # restores all flags
            mock.patch.object(sys, "argv", [sys.argv[0], *arguments]),  # ml_collections reads it
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", DeprecationWarning)  # how it loads a config file
            main(flags.parse(sys.argv))
    finally:
        logging.set_verbosity(verbosity)
