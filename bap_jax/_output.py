"""What the commands print and write: to a terminal of any kind, and to files that may not exist."""

import os
import re
import sys
from pathlib import Path
from typing import TextIO

from bap_jax.errors import UserError

# As the path of a file: the standard output.
STDOUT = Path("-")
# Control characters but the line feed, and those that turn the direction of the text around them.
_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""The text with control characters written out: names of groups must not steer a terminal.

    Example:
      >>> print(visible("\x1b[31mred\tapple"))
      \x1b[31mred\tapple
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Prints although the pipe may be closed, or the terminal have no ε: the exit code counts.

    Args:
      text: what to print.
      stream: where; by default the standard output.
    """
    out = sys.stdout if stream is None else stream
    encoding = out.encoding or "utf-8"
    try:
        print(visible(text).encode(encoding, "replace").decode(encoding), file=out, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def write_file(path: Path, text: str, flag: str) -> None:
    """Writes a file in UTF-8, and the folders that it is in.

    Args:
      path: of the file; `STDOUT` is printed.
      text: its content.
      flag: that named the file, for the error.

    Raises:
      UserError: it cannot be written.
    """
    if path == STDOUT:
        return print_text(text.rstrip("\n"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half a character, as JSON and names of files can hold, is no UTF-8.
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UserError(
            f"--{flag}={path} cannot be written: {error.strerror}. Name a file in a folder that "
            "you may write to."
        ) from error
