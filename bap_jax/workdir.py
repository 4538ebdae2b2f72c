"""The folder of an experiment: one dense model, and one run for each method and seed.

WORKDIR/
  config.json                 the config that all runs in here share: no method, seed and log
  dense/                      the dense model, trained once
  METHOD-seedN/               report, page, metrics, predictions and the pruned network
  report.html, …              copies of the newest run's page, report and metrics
  data.json                   how many samples each split has of each group and label
  data_cache/                 decoded images, unless --data_cache names another folder
  disparity.png               excess gap of every group, one colour for each method

The folder of a sweep is described in `bap_jax.sweep.folder`. Both are checked here: a workdir must
be new, or hold results of the same config.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bap_jax._deprecated import former_names
from bap_jax.config_identity import ADDED, WITHOUT_EFFECT
from bap_jax.errors import UserError
from bap_jax.training import METHODS

DATA_CACHE = "data_cache"
SWEEP_FILE = "sweep.json"
_NOT_SHARED = ("method", "seed", *WITHOUT_EFFECT)


class Workdir:
    """Paths in a workdir."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.config = self.root / "config.json"
        self.dense = self.root / "dense"
        self.figure = self.root / "disparity.png"

    def run_folder(self, method: str, seed: int) -> Path:
        """The folder of one run."""
        return self.root / f"{method}-seed{seed}"

    def publish(self, run: Path) -> None:
        """Copies a finished run's metrics and report to the top of the workdir."""
        for name in ("metrics.jsonl", "report.html", "report.json"):
            shutil.copyfile(run / name, self.root / name)

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """Reports of all finished runs by method, as registered; of each method by seed."""
        reports = [json.loads(path.read_text()) for path in self.root.glob("*-seed*/report.json")]
        reports.sort(key=lambda report: report["seed"])
        methods = sorted({report["method"] for report in reports}, key=_registration_order)
        return {name: [r for r in reports if r["method"] == name] for name in methods}


def _registration_order(method):
    """Methods that are not registered in this process come last, by name."""
    known = list(METHODS)
    return (known.index(method) if method in known else len(known), method)


def check_workdir(root: str | Path, config: Mapping[str, Any]) -> None:
    """Checks that a run with this config may use the workdir; writes nothing.

    Args:
      root: the folder; it need not exist.
      config: the whole config as plain values.

    Raises:
      UserError: the folder holds runs with another config (the differing keys are shown), or
        something else, such as a sweep.
    """
    workdir = Workdir(root)
    if (workdir.root / SWEEP_FILE).exists():
        raise UserError(f"workdir {root} holds a sweep; use a separate --workdir for single runs.")
    recorded = read_json(workdir.config)
    if recorded is None:
        check_unused(workdir.root, "run")
        return
    check_same_config(
        workdir.root,
        recorded={**ADDED, **flatten_config(_shared_config(recorded))},
        requested={**ADDED, **flatten_config(_shared_config(config))},
        contents="runs",
        advice="Use a separate --workdir, or delete this one.",
    )


def open_workdir(root: str | Path, config: Mapping[str, Any]) -> Workdir:
    """Creates the workdir, or checks that the one that exists belongs to the same experiment.

    Args:
      root: the folder.
      config: the whole config as plain values.

    Raises:
      UserError: see `check_workdir`.
    """
    check_workdir(root, config)
    workdir = Workdir(root)
    if not workdir.config.exists():
        workdir.root.mkdir(parents=True, exist_ok=True)
        write_atomically(workdir.config, json.dumps(_shared_config(config), indent=2) + "\n")
    return workdir


def _shared_config(config):
    shared = {key: value for key, value in config.items() if key not in _NOT_SHARED}
    return json.loads(json.dumps(shared))


def check_same_config(
    root: Path,
    recorded: Mapping[str, Any],
    requested: Mapping[str, Any],
    contents: str,
    advice: str,
) -> None:
    """Compares the config that a workdir records with the one that is requested.

    Args:
      root: the workdir.
      recorded, requested: plain values by dotted key.
      contents: what the workdir holds, in the plural.
      advice: what to do about a difference.

    Raises:
      UserError: they differ; the message shows the keys with both values.
    """
    differing = [
        f"config.{key} is {recorded.get(key)} in the workdir and {requested.get(key)} now"
        for key in sorted({*recorded, *requested})
        if recorded.get(key) != requested.get(key)
    ]
    if differing:
        raise UserError(
            f"workdir {root} holds {contents} with another config: {'; '.join(differing)}. {advice}"
        )


def check_unused(root: Path, contents: str) -> None:
    """Checks that a folder does not exist, or holds nothing but decoded images.

    Raises:
      UserError: it holds anything else; `contents` is what a workdir would hold.
    """
    if root.exists() and not _is_unused(root):
        raise UserError(
            f"workdir {root} is not empty and holds no {contents} of bap_jax; "
            "use a separate --workdir."
        )


def _is_unused(root):
    return root.is_dir() and all(
        path.name == DATA_CACHE or _is_temporary(path) for path in root.iterdir()
    )


def flatten_config(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Plain values by dotted key.

    Example:
      >>> flatten_config({"seed": 0, "dual": {"bound": 1.0}})
      {'seed': 0, 'dual.bound': 1.0}
    """
    flat = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat |= flatten_config(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing, damaged or holds something else."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.tmp")
    yield temporary
    os.replace(temporary, path)


def _is_temporary(path):
    return path.name.startswith(".") and path.name.endswith(".tmp")


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a reader sees all of it or nothing, even after a kill."""
    with atomic_path(path) as temporary:
        temporary.write_text(text)


__getattr__ = former_names(
    "bap_jax.workdir",
    {
        "check_claim": "bap_jax.workdir.check_workdir",
        "claim": "bap_jax.workdir.open_workdir",
        "write_whole": "bap_jax.workdir.write_atomically",
        "written_whole": "bap_jax.workdir.atomic_path",
    },
)
