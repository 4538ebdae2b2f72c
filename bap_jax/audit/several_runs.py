"""Finished runs of bap_jax on the same samples, by method and seed, for `compare_methods`.

Runs are one method where their configs differ in nothing but the seed. They must have been judged
on the same samples, with the same labels and groups; the order may differ.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bap_jax.audit.run_folder import PREDICTIONS, REPORT, read_report, read_split
from bap_jax.audit.samples import sha256_of
from bap_jax.errors import UserError, first_of

# Where the data lie does not matter: the samples themselves are compared.
_NOT_OF_THE_METHOD = ("seed", "data.dir")


class Run(NamedTuple):
    """One run.

    Attributes:
      folder: as given.
      report: its `report.json`.
      setting: its config by dotted key, without the seed.
      arrays: of the split, by the names of `predictions.npz` without `SPLIT_`.
      groups: for each attribute `(sample,)` names.
    """

    folder: Path
    report: Mapping[str, Any]
    setting: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray]


class MethodRuns(NamedTuple):
    """What `compare_methods` takes, and where it is from.

    Attributes:
      correct: for each method `(seed, sample)` bool.
      dense_correct: `(sample,)` bool, or `(seed, sample)` if each seed has its own dense network.
      groups: for each attribute `(sample,)` names.
      tolerance: of all runs; None if it differs.
      seeds: for each method the seeds of its runs.
      files: SHA-256 of each file that was read, by its path.
    """

    correct: Mapping[str, np.ndarray]
    dense_correct: np.ndarray
    groups: Mapping[str, np.ndarray]
    tolerance: float | None
    seeds: Mapping[str, list[int]]
    files: Mapping[str, str]


def read_runs(paths: Sequence[Path], split: str = "test") -> MethodRuns:
    """Reads runs, and puts those together that differ only in the seed.

    Args:
      paths: folders of runs, or folders that hold runs: workdirs and sweeps.
      split: which part of the data.

    Raises:
      UserError: there are no runs, a run has no predictions of the split, or the runs were judged
        on other samples, labels or groups than the first one.
    """
    runs = [_read(folder, split) for folder in _find(paths)]
    first = runs[0]
    runs = [first, *(_in_order_of(first, run, split) for run in runs[1:])]
    methods = _by_method(runs)
    return MethodRuns(
        correct={name: _stack(of_method, "sparse_correct") for name, of_method in methods.items()},
        dense_correct=_dense(methods),
        groups=first.groups,
        tolerance=_common([run.report.get("tolerance") for run in runs]),
        seeds={name: [_seed(run) for run in rows] for name, rows in methods.items()},
        files={str(run.folder / PREDICTIONS): sha256_of(run.folder / PREDICTIONS) for run in runs},
    )


def _find(paths) -> list[Path]:
    found = {}
    for path in paths:
        inside = [path / PREDICTIONS] if (path / PREDICTIONS).is_file() else []
        if not inside:
            patterns = (f"*/{PREDICTIONS}", f"members/*/{PREDICTIONS}")
            inside = [file for pattern in patterns for file in sorted(path.glob(pattern))]
        if not inside:
            raise UserError(
                f"there are no finished runs in {path}; expected a folder with {PREDICTIONS}, as "
                "METHOD-seedN in a workdir has it, or a workdir or sweep that holds such folders."
            )
        found |= {file.parent.resolve(): file.parent for file in inside}
    return list(found.values())


def _read(folder, split) -> Run:
    report_file = folder / REPORT
    if not report_file.is_file():
        raise UserError(f"there is no {report_file}: the run has not finished; leave it out.")
    report = read_report(report_file)
    names = ("id", "dense_correct", "sparse_correct")
    # Labels that are no single array are not in the file.
    arrays, groups = read_split(folder / PREDICTIONS, split, names, ("label",))
    setting = {
        key: value
        for key, value in _flat(report.get("config", {})).items()
        if key not in _NOT_OF_THE_METHOD
    }
    setting["method"] = report.get("method", folder.name)
    return Run(folder, report, setting, arrays, groups)


def _flat(plain, prefix=""):
    flat = {}
    for key, value in plain.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else None
        flat |= {f"{prefix}{key}": value} if inner is None else inner
    return flat


def _seed(run) -> int:
    return run.report.get("seed", 0)


def _in_order_of(first, run, split) -> Run:
    """The run with its samples in the order of the first run.

    Raises:
      UserError: the samples, labels or groups are others.
    """
    ids, own = first.arrays["id"], run.arrays["id"]
    missing, extra = np.setdiff1d(ids, own), np.setdiff1d(own, ids)
    if missing.size or extra.size or len(ids) != len(own):
        some = missing if missing.size else extra
        where = (first, run) if missing.size else (run, first)
        raise UserError(
            f"runs that are compared must be judged on the same samples: {first.folder} has "
            f"{len(ids)} {split} samples and {run.folder} {len(own)}; "
            f"{len(some)} of {where[0].folder} are not in {where[1].folder}, such as id "
            f"{first_of(list(map(str, some)), 3)}. Repeat one with the data section of the other."
        )
    order = np.argsort(own, kind="stable")[np.argsort(np.argsort(ids, kind="stable"))]
    arrays = {name: values[order] for name, values in run.arrays.items()}
    groups = {name: values[order] for name, values in run.groups.items()}
    if not np.array_equal(arrays.get("label", ()), first.arrays.get("label", ())):
        raise UserError(
            f"{first.folder} and {run.folder} have other labels for the same sample ids; were they "
            "made from other data, or with another data.target?"
        )
    if groups.keys() != first.groups.keys() or any(
        not np.array_equal(groups[name], first.groups[name]) for name in groups
    ):
        raise UserError(
            f"{first.folder} and {run.folder} put the same samples into other groups "
            f"({', '.join(first.groups) or 'none'} and {', '.join(groups) or 'none'}); compare "
            "runs with the same data.group_by."
        )
    return run._replace(arrays=arrays, groups=groups)


def _by_method(runs) -> dict[str, list[Run]]:
    """Runs by the name of their method, by seed; the name says in what the settings differ."""
    settings: list[Mapping] = []
    for run in runs:
        if run.setting not in settings:
            settings.append(run.setting)
    keys = sorted({key for setting in settings for key in setting} - {"method"})
    varied = [key for key in keys if any(s.get(key) != settings[0].get(key) for s in settings)]
    methods = {}
    for setting in settings:
        others = [f"{key}={setting.get(key)}" for key in varied]
        rows = [run for run in runs if run.setting == setting]
        name = ", ".join([setting["method"], *others])
        methods[name] = sorted(rows, key=_seed)
        seeds = list(map(_seed, methods[name]))
        if len(set(seeds)) < len(seeds):
            raise UserError(
                f"{name} is there twice with the same seed: "
                f"{', '.join(str(run.folder) for run in rows)}. Leave one of them out."
            )
    return methods


def _stack(runs, name):
    return np.stack([run.arrays[name] for run in runs])


def _dense(methods):
    """`(sample,)` where all runs start from one network, else `(seed, sample)`."""
    every = [_stack(runs, "dense_correct") for runs in methods.values()]
    if all((rows == every[0][0]).all() for rows in every):
        return every[0][0]
    if all(np.array_equal(rows, every[0]) for rows in every):
        return every[0]
    raise UserError(
        "the runs start from different dense networks: their dense predictions are right on other "
        "samples. Compare runs of one workdir or sweep, or give every method the same seeds of "
        "dense.seed; and runs with the same loss and correct."
    )


def _common(values):
    return values[0] if len(set(values)) == 1 else None
