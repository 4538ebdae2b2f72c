"""The folder of a sweep: dense models, a folder for each member, and what came of all of them.

WORKDIR/
  sweep.json, sweep.csv, sweep.png  the members of the newest command, see `results`
  config.json                       what all members of all sweeps in here share
  data.json                         how many samples of which group and label there are
  data_cache/                       images, decoded once, unless another folder is named
  dense/DIGEST/                     a dense model, shared by all members with its data and network
  members/LABEL-DIGEST/             metrics.jsonl, selected/ and, last of all, report.json
                                    of a run that diverged: metrics.jsonl, last_good/, failed.json

A member is known by its whole config: it is finished when its report holds that config, or its
failed.json does. So a sweep goes on where it was cut off, and one with further values or axes runs
only what is new. A run that diverged would do so again; to try nevertheless, delete its folder.
Results are written beside their place and moved there: after a kill they are whole or not there.
"""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.sweep.plan import Member, digest, flatten_config
from bap_jax.types import UserError
from bap_jax.workdir import DATA_CACHE, write_whole

_OF_DENSE = ("data", "model", "dense", "precision")


class MemberOutcome(NamedTuple):
    """What came of a member.

    Attributes:
      report: as in `report.json`; None where the run diverged.
      error: why it diverged; None where it did not.
    """

    report: dict[str, Any] | None
    error: str | None


class SweepFolder:
    """Paths in the workdir of a sweep, and which of its members are finished."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.results = self.root / "sweep.json"
        self.table = self.root / "sweep.csv"
        self.figure = self.root / "sweep.png"
        self.summaries = self.root / "data.json"
        self.shared = self.root / "config.json"

    def dense(self, plain: dict[str, Any]) -> Path:
        """The folder of the dense model that a config starts from."""
        sections = {key: plain[key] for key in _OF_DENSE if key in plain}
        return self.root / "dense" / digest(sections)[:12]

    def member(self, member: Member) -> Path:
        """The folder of a member, under the label of an earlier sweep where one has finished it."""
        place = self.root / "members" / member.name
        if not place.is_dir():
            for other in self._earlier.get(member.name[-8:], ()):
                if _outcome(other, member):
                    return other
        return place

    @functools.cached_property
    def _earlier(self):
        """Folders of members that were there at first, by the digest in their names."""
        found = {}
        for place in (self.root / "members").glob("*"):
            found.setdefault(place.name[-8:], []).append(place)
        return found

    def outcome(self, member: Member) -> MemberOutcome | None:
        """What came of a member; None while it is not finished."""
        return _outcome(self.member(member), member)

    def begin(self, member: Member) -> Path:
        """An empty folder for a member; what an interrupted run left in it is removed."""
        place = self.member(member)
        if place.exists():
            shutil.rmtree(place)
        place.mkdir(parents=True)
        return place

    def fail(self, member: Member, error: str) -> None:
        """Notes that a member diverged, which finishes it."""
        text = json.dumps({"config": member.plain, "error": error}, indent=1) + "\n"
        write_whole(self.member(member) / "failed.json", text)


def claim_sweep(root: str | Path, members: Sequence[Member] = ()) -> SweepFolder:
    """Makes the workdir of a sweep, or checks that it is one.

    Args:
      root: the folder.
      members: of the sweep that is to run in it.

    Raises:
      UserError: it holds something else, or a sweep of another config.
    """
    folder = SweepFolder(root)
    check_sweep_claim(folder, members)
    folder.root.mkdir(parents=True, exist_ok=True)
    if not folder.results.exists():
        write_whole(folder.results, json.dumps({"rows": []}) + "\n")
    for name in ("dense", "members"):
        (folder.root / name).mkdir(exist_ok=True)
    if members:
        shared = _shared(members)
        there = _read(folder.shared) or shared
        kept = {key: value for key, value in there.items() if key in shared}
        write_whole(folder.shared, json.dumps(kept, indent=1) + "\n")
    return folder


def check_sweep_claim(folder: SweepFolder, members: Sequence[Member] = ()) -> None:
    """Finds a workdir that is not this sweep's, and writes nothing.

    Rows name what the axes changed and nothing else, so that sweeps of one folder must agree in
    all that none of them changes.

    Raises:
      UserError: it holds something else, or a sweep of another config.
    """
    root = folder.root
    if "rows" in (_read(folder.results) or {}) or not root.exists():
        there, here = _read(folder.shared) or {}, _shared(members) if members else {}
        differing = [
            f"config.{key} is {there[key]} there and {here[key]} here"
            for key in there.keys() & here.keys()
            if there[key] != here[key]
        ]
        if differing:
            raise UserError(
                f"workdir {root} holds a sweep of another config: {'; '.join(sorted(differing))}. "
                "Choose another --workdir, or make it an axis."
            )
        return
    ours = (".tmp", DATA_CACHE)
    if not root.is_dir() or any(not path.name.endswith(ours) for path in root.iterdir()):
        raise UserError(
            f"workdir {root} is not empty and holds no sweep of bap_jax; choose another --workdir."
        )


def _shared(members):
    """What no axis changes, by dotted key."""
    overrides = {key for member in members for key in member.overrides}
    found = flatten_config(json.loads(json.dumps(members[0].plain)))
    return {key: value for key, value in found.items() if key not in overrides}


def _outcome(place, member):
    report = _read(place / "report.json")
    if report and report.get("config") == member.plain:
        return MemberOutcome(report, None)
    failed = _read(place / "failed.json")
    if failed and failed.get("config") == member.plain:
        return MemberOutcome(None, failed["error"])
    return None


def _read(path):
    """The object in a JSON file; None where there is none that is whole."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
