"""The folder of an experiment: one dense model, and one run for each method, seed and setting.

    WORKDIR/
      config.json                 the first config run in here, without method, seed and log
      dense/, dense.json          the dense model, trained once, and what made it
      METHOD-seedN/               report, page, metrics, predictions and the pruned network of a run
                                  with the config of config.json
      METHOD-seedN-KEY=VALUE-DIGEST/
                                  the same of a run whose config differs from it in KEY
      report.html, …              copies of the newest run's page, report and metrics
      data.json                   how many samples each split has of each group and label
      data_cache/                 decoded images, unless --data_cache names another folder
      disparity.png               excess gap of every group, one colour for each method and setting

All runs in a workdir start from the same dense model, see `bap_jax.dense_network`. As long as no
run has finished, nothing is settled: a corrected config takes the place of the recorded one. The
folder of a sweep is described in `bap_jax.sweep.folder`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bap_jax._deprecated import former_names
from bap_jax.config_identity import ADDED, WITHOUT_EFFECT, deciding, is_read
from bap_jax.errors import UserError
from bap_jax.reporting.sweep_rows import format_value
from bap_jax.training import METHODS

DATA_CACHE = "data_cache"
SWEEP_FILE = "sweep.json"
_NOT_SHARED = ("method", "seed", *WITHOUT_EFFECT)
# Where the data lie decides nothing: the samples themselves are compared.
_NOT_OF_A_SETTING = (*_NOT_SHARED, "data.dir")
_FILES = ("data.json", "report.html", "report.json", "metrics.jsonl", "disparity.png")
_LONGEST_SETTING = 120  # file systems allow 255 bytes a name


class Workdir:
    """Paths in a workdir."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.config = self.root / "config.json"
        self.dense = self.root / "dense"
        self.figure = self.root / "disparity.png"

    def run_folder(self, method: str, seed: int, config: Mapping[str, Any] | None = None) -> Path:
        """The folder of one run.

        Args:
          method: its name, fit for a file system.
          seed: of the run.
          config: its whole config as plain values; by default that of `config.json`.
        """
        setting = setting_of(read_json(self.config) or {}, config) if config is not None else ""
        return self.root / f"{method}-seed{seed}{setting}"

    def has_finished_runs(self) -> bool:
        """Whether any run in here has a report."""
        return any(self.root.glob("*-seed*/report.json"))

    def publish(self, run: Path) -> None:
        """Copies a finished run's metrics, report and page to the top of the workdir."""
        for name in ("metrics.jsonl", "report.html", "report.json"):
            if (run / name).exists():
                shutil.copyfile(run / name, self.root / name)
            else:  # that of another run must not pass for this one's
                (self.root / name).unlink(missing_ok=True)

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """Reports of the finished runs on the groups of the newest one.

        Returns:
          For each method, in the order of registration, its reports by seed. Where settings differ,
          the name says how, as in `ceag, pruning.sparsity=0.9`.
        """
        reports = [json.loads(path.read_text()) for path in self.root.glob("*-seed*/report.json")]
        newest = read_json(self.root / "report.json") or {}
        if newest:
            reports = [report for report in reports if _groups_of(report) == _groups_of(newest)]
        reports.sort(key=lambda report: report["seed"])
        settings = [_flat(report.get("config", {})) for report in reports]
        keys = sorted({key for setting in settings for key in setting})
        runs = [(report["method"], s) for report, s in zip(reports, settings, strict=True)]

        def values(key):
            return {_value(setting, key) for method, setting in runs if is_read(key, method)}

        varied = [key for key in keys if len(values(key)) > 1]
        named = {}
        for report, setting in zip(reports, settings, strict=True):
            read = [key for key in varied if is_read(key, report["method"])]
            others = tuple(f"{key}={_value(setting, key)}" for key in read)
            key = (_registration_order(report["method"]), others)
            named.setdefault(key, (", ".join([report["method"], *others]), []))[1].append(report)
        return dict(value for _, value in sorted(named.items()))


def _groups_of(report):
    """Names and sizes of the groups on test data."""
    groups = report.get("splits", {}).get("test", {}).get("groups", ())
    return [(group["name"], group["n"]) for group in groups]


def _registration_order(method):
    """Methods that are not registered in this process come last, by name."""
    known = list(METHODS)
    return (known.index(method) if method in known else len(known), method)


def _flat(config):
    """What decides the results of a run, by dotted key, without method and seed."""
    flat = flatten_config(json.loads(json.dumps(deciding(config))))
    return {key: value for key, value in flat.items() if key not in _NOT_OF_A_SETTING}


def _value(setting, key):
    return format_value(setting.get(key, ADDED.get(key)))


def setting_of(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """How a config differs from the recorded one, as the end of a file name; empty if it does not.

    Example:
      >>> setting_of({"tolerance": 0.01}, {"tolerance": 0.02, "seed": 3})
      '-tolerance=0.02-16e0babc'
    """
    # The file holds no method, and what a method reads decides what is compared.
    before, now = _flat({**recorded, "method": config.get("method")}), _flat(config)
    keys = [key for key in sorted({*before, *now}) if _value(before, key) != _value(now, key)]
    if not keys:
        return ""
    text = ",".join(f"{key}={_value(now, key)}" for key in keys)
    safe = re.sub(r"[^\w.=,+-]", "_", text, flags=re.ASCII)[:_LONGEST_SETTING]
    digest = hashlib.sha256(json.dumps(now, sort_keys=True).encode()).hexdigest()
    return f"-{safe}-{digest[:8]}"


def check_workdir(root: str | Path) -> None:
    """Checks that a run may use the workdir; writes nothing.

    Args:
      root: the folder; it need not exist. Other files may lie in it.

    Raises:
      UserError: the folder holds a sweep, or something else whose files would be overwritten.
    """
    workdir = Workdir(root)
    if (workdir.root / SWEEP_FILE).exists():
        raise UserError(f"workdir {root} holds a sweep; use a separate --workdir for single runs.")
    if not _is_config(read_json(workdir.config)):
        check_unused(workdir.root, "run", (workdir.config.name, workdir.dense.name, *_FILES))


def _is_config(recorded):
    sections = ("data", "model", "dense")
    return recorded is not None and all(isinstance(recorded.get(s), dict) for s in sections)


def open_workdir(root: str | Path, config: Mapping[str, Any]) -> Workdir:
    """Creates the workdir, and records the config unless a run with another one has finished.

    Args:
      root: the folder.
      config: the whole config as plain values.

    Raises:
      UserError: see `check_workdir`.
    """
    check_workdir(root)
    workdir = Workdir(root)
    if not workdir.config.exists() or not workdir.has_finished_runs():
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


def check_unused(root: Path, contents: str, names: Collection[str]) -> None:
    """Checks that a folder does not exist, or holds nothing of these names.

    Args:
      root: the folder.
      contents: what it would hold if its files were those of bap_jax.
      names: of the files and folders that would be written.

    Raises:
      UserError: it is a file, or holds some of them.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"workdir {root} is a file; name a folder by --workdir.")
    found = [name for name in names if (root / name).exists()]
    if found:
        raise UserError(
            f"workdir {root} holds {', '.join(found)}, which would be overwritten, and no "
            f"{contents} of bap_jax; use a separate --workdir."
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
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a reader sees all of it or nothing, even after a kill."""
    with atomic_path(path) as temporary:
        # Half a character in a name is no UTF-8, and must not cost the file.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


__getattr__ = former_names(
    "bap_jax.workdir",
    {
        "check_claim": "bap_jax.workdir.check_workdir",
        "claim": "bap_jax.workdir.open_workdir",
        "write_whole": "bap_jax.workdir.write_atomically",
        "written_whole": "bap_jax.workdir.atomic_path",
    },
)
