"""What the commands have in common: flags, files that they write, text for the terminal."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from bap_jax.errors import UserError

FAILED = 3


class Parser(argparse.ArgumentParser):
    """Raises a `UserError` that says how to see all flags, where argparse would exit with 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. Flags and examples: {self.prog} --help")


def exit_code_of(command: Callable[[Sequence[str]], tuple[str, int]], arguments: Sequence[str]):
    """Runs a command that returns its text and its exit code, and prints the text.

    Returns:
      The exit code; `FAILED` for an error of any kind, whose reason is on stderr.
    """
    try:
        text, exit_code = command(arguments)
        print_text(text)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED
    return exit_code


def write_file(path: Path, text: str) -> None:
    """Writes a file in UTF-8, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def print_text(text: str) -> None:
    """Prints although the pipe may be closed, or the terminal have no ε: the exit code counts."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "replace").decode(encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
