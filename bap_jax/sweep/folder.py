"""The folder of a sweep: dense models, a folder for each member, and the results of all members.

WORKDIR/
  sweep.json, sweep.csv, sweep.png  results of the newest command's members, see `results`
  config.json                       the config that all members of all sweeps in here share
  data.json                         for each data set, how many samples each split has
  data_cache/                       decoded images, unless --data_cache names another folder
  dense/DIGEST/                     a dense model, shared by all members with its data and network
  members/LABEL-DIGEST/             metrics.jsonl, pruned/, predictions.npz, report.html and,
                                    written last, report.json;
                                    of a run that diverged: metrics.jsonl, last_good/, failed.json

A member is identified by its whole config: it is finished once its report.json or its failed.json
holds that config. So a sweep continues where it was interrupted, and a sweep with more values or
axes runs only the new members. A run that diverged would diverge again; delete its folder to try
it again nevertheless. Results are written to a temporary file and then moved, so that a kill never
leaves half a file.
"""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.config_identity import WITHOUT_EFFECT, deciding
from bap_jax.sweep.plan import Member, digest
from bap_jax.workdir import (
    SWEEP_FILE,
    check_same_config,
    check_unused,
    flatten_config,
    read_json,
    write_atomically,
)

_NAMES = ("sweep.json", "sweep.csv", "sweep.png", "config.json", "data.json", "dense", "members")
_OF_DENSE = ("data", "model", "dense", "precision", "loss")


class MemberOutcome(NamedTuple):
    """The result of a finished member.

    Attributes:
      report: as in `report.json`; None if the run diverged.
      error: why the run diverged; None if it did not.
    """

    report: dict[str, Any] | None
    error: str | None


class SweepFolder:
    """Paths in the workdir of a sweep, and which of its members are finished."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.results = self.root / SWEEP_FILE
        self.table = self.root / "sweep.csv"
        self.figure = self.root / "sweep.png"
        self.summaries = self.root / "data.json"
        self.shared = self.root / "config.json"

    def dense(self, plain: dict[str, Any]) -> Path:
        """The folder of the dense model that a run with the config `plain` starts from."""
        sections = {key: value for key, value in deciding(plain).items() if key in _OF_DENSE}
        return self.root / "dense" / digest(sections)[:12]

    def member(self, member: Member) -> Path:
        """The folder of a member; the one of an earlier sweep if that has finished the member."""
        folder = self.root / "members" / member.name
        if not folder.is_dir():
            for earlier in self._earlier.get(member.name[-8:], ()):
                if _read_outcome(earlier, member):
                    return earlier
        return folder

    def has_finished_members(self) -> bool:
        """Whether any member of any sweep in here has ended."""
        members = self.root / "members"
        return any(any(members.glob(f"*/{name}")) for name in ("report.json", "failed.json"))

    @functools.cached_property
    def _earlier(self):
        """Member folders that existed at first, by the digest in their names."""
        folders = {}
        for folder in (self.root / "members").glob("*"):
            folders.setdefault(folder.name[-8:], []).append(folder)
        return folders

    def outcome(self, member: Member) -> MemberOutcome | None:
        """The result of a member; None while it is not finished."""
        return _read_outcome(self.member(member), member)

    def begin(self, member: Member) -> Path:
        """Creates an empty folder for a member; removes what an interrupted run left in it."""
        folder = self.member(member)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def fail(self, member: Member, error: str) -> None:
        """Records that a member diverged; it then counts as finished."""
        text = json.dumps({"config": member.plain, "error": error}, indent=1) + "\n"
        write_atomically(self.member(member) / "failed.json", text)

    def write_summaries(self, summaries: Sequence[dict[str, Any]]) -> None:
        """Writes `data.json`; keeps the one that exists if all members are finished.

        Args:
          summaries: as `runner.check_programs` returns them.
        """
        if summaries:
            write_atomically(self.summaries, json.dumps(summaries, indent=1) + "\n")


def check_sweep_folder(folder: SweepFolder, members: Sequence[Member] = ()) -> None:
    """Checks that a sweep with these members may use the workdir; writes nothing.

    A row of the results names only what the axes set. Sweeps that share a workdir must therefore
    agree in everything that none of them varies, once a member has ended.

    Args:
      folder: the workdir; it need not exist.
      members: the members of the sweep.

    Raises:
      UserError: the workdir holds a sweep with another config, or something else.
    """
    if "rows" not in (read_json(folder.results) or {}):
        check_unused(folder.root, "sweep", _NAMES)
        return
    if not folder.has_finished_members():
        return
    recorded, requested = read_json(folder.shared) or {}, _shared_values(members)
    common = recorded.keys() & requested.keys()
    check_same_config(
        folder.root,
        recorded={key: recorded[key] for key in common},
        requested={key: requested[key] for key in common},
        contents="a sweep",
        advice="Use a separate --workdir, or make the key an axis of the sweep.",
    )


def open_sweep_folder(root: str | Path, members: Sequence[Member] = ()) -> SweepFolder:
    """Creates the workdir of a sweep, or checks that the one that exists belongs to it.

    Args:
      root: the folder.
      members: the members of the sweep that is to run in it.

    Raises:
      UserError: see `check_sweep_folder`.
    """
    folder = SweepFolder(root)
    check_sweep_folder(folder, members)
    folder.root.mkdir(parents=True, exist_ok=True)
    if not folder.results.exists():  # first of all: it is what identifies the folder
        write_atomically(folder.results, json.dumps({"rows": []}) + "\n")
    for name in ("dense", "members"):
        (folder.root / name).mkdir(exist_ok=True)
    if members:
        shared = _shared_values(members)
        recorded = read_json(folder.shared) if folder.has_finished_members() else None
        recorded = recorded or shared
        kept = {key: value for key, value in recorded.items() if key in shared}
        write_atomically(folder.shared, json.dumps(kept, indent=1) + "\n")
    return folder


def _shared_values(members):
    """Plain values that no axis sets, by dotted key."""
    if not members:
        return {}
    overrides = {key for member in members for key in member.overrides}
    values = flatten_config(json.loads(json.dumps(members[0].plain)))
    left_out = {*overrides, *WITHOUT_EFFECT}
    return {key: value for key, value in values.items() if key not in left_out}


def _is_of(record, member):
    return deciding(record.get("config") or {}) == deciding(member.plain)


def _read_outcome(folder, member):
    report = read_json(folder / "report.json")
    if report and _is_of(report, member):
        return MemberOutcome(report, None)
    failed = read_json(folder / "failed.json")
    if failed and _is_of(failed, member):
        return MemberOutcome(None, failed["error"])
    return None
