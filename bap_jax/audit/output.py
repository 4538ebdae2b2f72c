"""What the commands have in common: flags, files that they write, text for the terminal."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from bap_jax.audit.labels import visible
from bap_jax.errors import UserError

FAILED = 3
# As the path of a file: the standard output.
STDOUT = Path("-")


class Outcome(NamedTuple):
    """What a command found, and what it returns to the shell.

    Attributes:
      text: for the terminal.
      exit_code: of the command.
      files: what to write, `(flag, path, content)`.
    """

    text: str
    exit_code: int
    files: tuple[tuple[str, Path, str], ...] = ()


class Parser(argparse.ArgumentParser):
    """Raises a `UserError` that says how to see all flags, where argparse would exit with 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. Flags and examples: {self.prog} --help")


def exit_code_of(command: Callable[[Sequence[str]], Outcome], arguments: Sequence[str]) -> int:
    """Runs a command, prints its text, and writes its files.

    The text comes first, so that it is not lost where a file cannot be written. It goes to stderr
    if a file goes to stdout.

    Returns:
      The exit code; `FAILED` for an error of any kind, whose reason is on stderr.
    """
    try:
        outcome = command(arguments)
        to_stdout = any(path == STDOUT for _, path, _ in outcome.files)
        print_text(outcome.text, sys.stderr if to_stdout else sys.stdout)
        for flag, path, content in outcome.files:
            write_file(path, content, flag)
    except (UserError, OSError) as error:
        print_text(f"error: {error}", sys.stderr)
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    return outcome.exit_code


def write_file(path: Path, text: str, flag: str) -> None:
    """Writes a file in UTF-8, and the folders that it lies in.

    Args:
      path: of the file; `STDOUT` is printed.
      text: its content.
      flag: that named the file, for the error.

    Raises:
      UserError: it cannot be written.
    """
    if path == STDOUT:
        return print_text(text.rstrip("\n"), sys.stdout)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half a character, as JSON and names of files can hold, is no UTF-8.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(
            f"--{flag}={path} cannot be written: {error.strerror}. Name a file in a folder that "
            "you may write to."
        ) from error


def print_text(text: str, stream: TextIO) -> None:
    """Prints although the pipe may be closed, or the terminal have no ε: the exit code counts."""
    encoding = stream.encoding or "utf-8"
    shown = "\n".join(map(visible, text.split("\n")))
    try:
        print(shown.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
