"""The folder of an experiment: one dense model, and one run for each method and seed.

WORKDIR/
  config.json                 what all runs in here share: everything but method and seed
  dense/                      the dense model, trained once
  METHOD-seedN/               metrics.jsonl, report.json and the selected iterate
  metrics.jsonl, report.json  copies of the newest run's
  data.json                   how many samples of which group and label there are in which split
  data_cache/                 images, decoded once, unless another folder is named
  disparity.png               excess gap of every group, one bar a method
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bap_jax.types import UserError

DATA_CACHE = "data_cache"
_PER_RUN = ("method", "seed")


class Workdir:
    """Paths in a workdir whose config is known to be this one."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.dense = self.root / "dense"
        self.figure = self.root / "disparity.png"

    def run_folder(self, method: str, seed: int) -> Path:
        """The folder of one run."""
        return self.root / f"{method}-seed{seed}"

    def publish(self, run: Path) -> None:
        """Copies a finished run's metrics and report to the top."""
        for name in ("metrics.jsonl", "report.json"):
            shutil.copyfile(run / name, self.root / name)

    def reports(self) -> dict[str, list[dict[str, Any]]]:
        """Reports of all finished runs by method, seeds ascending."""
        found = [json.loads(path.read_text()) for path in self.root.glob("*-seed*/report.json")]
        found.sort(key=lambda report: report["seed"])
        methods = sorted({report["method"] for report in found}, key=_drawing_order)
        return {name: [r for r in found if r["method"] == name] for name in methods}


def _drawing_order(method):
    return (method == "ceag", method != "nft", method)


def check_claim(root: Path, config: Mapping[str, Any]) -> None:
    """Finds a workdir that belongs to something else, and writes nothing.

    Raises:
      UserError: as of `claim`.
    """
    root = Path(root)
    path = root / "config.json"
    if path.exists():
        differing = _differences(json.loads(path.read_text()), _shared(config))
        if differing:
            raise UserError(
                f"workdir {root} holds runs of another config: {'; '.join(differing)}. "
                "Choose another --workdir, or delete that folder."
            )
    elif root.exists() and not is_free(root):
        raise UserError(
            f"workdir {root} is not empty and holds no run of bap_jax; choose another --workdir."
        )


def claim(root: Path, config: Mapping[str, Any]) -> Workdir:
    """Makes the workdir, or checks that what lies in it belongs to the same experiment.

    Args:
      root: the folder.
      config: the whole config as plain values.

    Raises:
      UserError: the folder holds runs of another config (the differing keys are shown), or holds
        something else.
    """
    check_claim(root, config)
    root = Path(root)
    path = root / "config.json"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_shared(config), indent=2) + "\n")
    return Workdir(root)


def _shared(config):
    shared = {key: value for key, value in config.items() if key not in _PER_RUN}
    return json.loads(json.dumps(shared))


def is_free(root: Path) -> bool:
    """Whether a folder holds nothing, or decoded images alone."""
    return root.is_dir() and all(path.name == DATA_CACHE for path in root.iterdir())


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block has ended."""
    beside = path.with_name(f".{path.name}.tmp")
    yield beside
    os.replace(beside, path)


def write_whole(path: Path, text: str) -> None:
    """Writes a file of which a reader sees all or nothing."""
    with written_whole(path) as beside:
        beside.write_text(text)


def _differences(there, here, prefix=""):
    found = []
    for key in sorted({*there, *here}):
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"config.{prefix}{key} is {old} there and {new} here")
    return found
