"""Where an audit comes from: command, versions, files and date, for its report."""

import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_PACKAGES = ("bap_jax", "numpy", "scipy")


def provenance(
    arguments: Sequence[str],
    files: Mapping[str, str],
    source: str,
    program: str = "bap_jax.audit",
) -> dict[str, Any]:
    """What a report says about its origin, as plain values.

    Args:
      arguments: of the command line.
      files: SHA-256 of each file that was read.
      source: what was read, in a line.
      program: the module that was run.

    Returns:
      `command`, `versions` by package, `hashes` by file, `source`, and `date` in ISO 8601.
    """
    return {
        "command": shlex.join(["python", "-m", program, *arguments]),
        "versions": versions(),
        "hashes": dict(files),
        "source": source,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute an audit."""
    return {"python": platform.python_version(), **{p: _version(p) for p in _PACKAGES}}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
