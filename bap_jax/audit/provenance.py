"""Where an audit comes from: command, versions, files and date, for its report."""

import datetime
import importlib.metadata
import platform
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_PACKAGES = ("bap_jax", "numpy", "scipy")


def provenance(arguments: Sequence[str], files: Mapping[str, str], source: str) -> dict[str, Any]:
    """What a report says about its origin, as plain values.

    Args:
      arguments: of the command line.
      files: SHA-256 of each file that was read.
      source: what was read, in a line.

    Returns:
      `command`, `versions` by package, `hashes` by file, `source`, and `date` in ISO 8601.
    """
    return {
        "command": shlex.join(["python", "-m", "bap_jax.audit", *arguments]),
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in _PACKAGES}},
        "hashes": dict(files),
        "source": source,
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
