"""Runs an experiment from its config, as in section 5 of the paper.

settings ─► splits ─► dense model ─► pruned and tuned iterates ─► report

A `Session` holds what runs share that differ only in method, seed and other swept settings; a sweep
runs several of them in one session.
"""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from ml_collections import ConfigDict

from bap_jax import checkpoint, pipeline, reporting, sharding
from bap_jax import config as config_lib
from bap_jax._clock import Clock
from bap_jax._deprecated import former_names
from bap_jax._run_files import attempt, save_run_files
from bap_jax.dense_network import check_same_network, dense_model, made_of, put_in_place
from bap_jax.live_line import LiveLine
from bap_jax.metric_writers import RunDescription, make_writers, writing
from bap_jax.task import Task, load_task
from bap_jax.training import DivergedError, Execution
from bap_jax.training.loop import Progress
from bap_jax.workdir import (
    DATA_CACHE,
    Workdir,
    atomic_path,
    check_workdir,
    open_workdir,
    write_atomically,
)

_ALL_DEVICES = Execution(devices=0)


class RunResult(NamedTuple):
    """The result of a run.

    Attributes:
      report: as written to `report.json`; None if the run diverged.
      error: why and where it diverged; None if it did not.
      warnings: what could not be made although the run has finished, such as its page.
    """

    report: dict[str, Any] | None
    error: DivergedError | None = None
    warnings: tuple[str, ...] = ()


def run_experiment(
    config: ConfigDict,
    workdir: str | Path,
    execution: Execution = _ALL_DEVICES,
    before: "Callable[[Session, Path], object] | None" = None,
    on_data: Callable[[dict[str, Any]], object] | None = None,
    on_warning: Callable[[str], object] = logging.warning,
) -> dict[str, Any]:
    """Runs one method with one seed, and writes everything into `workdir`.

    Args:
      config: see `config.default_config`.
      workdir: a folder, see `bap_jax.workdir`; runs that start from one dense network share it.
      execution: how programs run on this machine.
      before: called with the session and the run's folder before the run.
      on_data: called with the summary of the data before anything is trained.
      on_warning: called with a text if the run's page or the figure of the workdir cannot be made;
        all other results are kept.

    Returns:
      The report, as written to `report.json`.

    Raises:
      UserError: a mistake in the config or the data, or the finished runs in the workdir start from
        another dense network; before anything is trained.
      DivergedError: a number that is not finite; the folder `last_good` of the run then holds the
        state before.
    """
    plain = config_lib.to_plain(config)
    settings = config_lib.to_settings(plain)
    clock = Clock()
    root = Path(workdir)
    paths = Workdir(root)
    sharding.by_first_process(lambda: _check_workdir(paths, plain))
    execution = caching_in(execution, root)
    with clock("data"):
        task = load_task(plain, execution)
    sharding.by_first_process(lambda: _prepare(paths, task))
    if on_data is not None:
        on_data(task.summary)
    session = Session(task, paths.dense, execution, clock)
    folder = paths.run_folder(file_name(plain["method"]), settings.seed, plain)
    sharding.by_first_process(lambda: _begin(folder, plain))
    if before is not None:
        before(session, folder)
    [result] = session.run([plain], [folder], label=plain["method"])
    if result.error:
        raise result.error
    assert result.report is not None
    warnings = [*result.warnings]
    sharding.by_first_process(lambda: warnings.extend(_publish(paths, folder)))
    for text in warnings:
        on_warning(text)
    return result.report


def _check_workdir(paths: Workdir, plain: dict[str, Any]) -> None:
    check_workdir(paths.root)
    if paths.has_finished_runs():
        check_same_network(paths.dense, made_of(plain))


def _prepare(paths: Workdir, task: Task) -> None:
    """Writes what is known before anything is trained."""
    open_workdir(paths.root, task.plain)
    put_in_place(paths, task)
    write_atomically(paths.root / "data.json", json.dumps(task.summary, indent=1) + "\n")


def _begin(folder: Path, plain: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "config.json", json.dumps(plain, indent=2) + "\n")


def file_name(method: str) -> str:
    """The name of a method, fit for a file system.

    Example:
      >>> file_name("ceag"), file_name("my_module:my_method")
      ('ceag', 'my_module.my_method')
    """
    return re.sub(r"[^\w.+-]", "_", method.replace(":", "."), flags=re.ASCII)


def _publish(paths: Workdir, folder: Path) -> list[str]:
    """Copies the results to the top of the workdir and draws its figure; returns warnings."""
    paths.publish(folder)

    def draw():
        with atomic_path(paths.figure) as temporary:
            reporting.draw_disparity(paths.reports(), temporary)

    return attempt(draw, paths.figure)


def caching_in(execution: Execution, root: Path) -> Execution:
    """The execution with its decoded images kept below `root`, unless it names a folder itself."""
    return dataclasses.replace(execution, data_cache=execution.data_cache or str(root / DATA_CACHE))


class Session:
    """Data and dense network, for runs whose settings have one structure.

    Args:
      task: data and network, or the config of any of the runs as plain values.
      dense_folder: where the dense network is saved, or will be.
      execution: how programs run.
      clock: seconds of the phases so far.

    Attributes:
      task: data and network.
      context: dense network and data, laid out for the runs.

    Raises:
      UserError: a mistake in the config or the data, before anything is trained.
    """

    def __init__(
        self,
        task: Task | dict[str, Any],
        dense_folder: Path,
        execution: Execution = _ALL_DEVICES,
        clock: Clock | None = None,
    ):
        self._clock = clock or Clock()
        task = load_task(task, execution) if isinstance(task, dict) else task
        self.task = task._replace(splits=pipeline.read_what_fits(task.splits, execution))
        with self._clock("dense"):
            dense = dense_model(self.task, Path(dense_folder), execution)
            self.context = pipeline.make_context(
                self.task.model, dense, self.task.splits, execution, self.task.criterion
            )
        self._tuner = None

    def capacity(self, count: int) -> int:
        """How many of `count` members to run in one program, see `pipeline.capacity`."""
        settings = config_lib.to_settings(self.task.plain)
        return pipeline.capacity(self.context, settings, count)

    def run(
        self,
        plains: Sequence[dict[str, Any]],
        folders: Sequence[Path],
        progress: Progress = iter,
        *,
        label: str = "",
    ) -> list[RunResult]:
        """Runs members of one program.

        Args:
          plains: their configs as plain values; they differ in `training.SWEPT` only.
          folders: one for each member, for `metrics.jsonl`, `pruned`, `predictions.npz` and at
            last `report.json`, or for `last_good` if the run diverges. Each reports its share of
            the time that all of them took.
          progress: wraps the range of epochs.
          label: of the line that shows where they are, in a terminal; by default none is shown.

        Raises:
          UserError: a writer of `config.log` cannot be made.
        """
        members = [config_lib.to_settings(plain) for plain in plains]
        clock = self._clock.copy()
        if self._tuner is None:
            self._tuner = pipeline.make_tuner(self.context, members[0])
        sharding.by_first_process(lambda: _remove_reports(folders))
        line = LiveLine(label, members[0].epochs, None if label else False, runs=len(members))
        with clock("prune_and_tune"), line, contextlib.ExitStack() as stack:
            logs = []
            for plain, folder in zip(plains, folders, strict=True):
                run = RunDescription(folder, folder.name, plain)
                writers = make_writers(plain["log"], run)
                logs.append(stack.enter_context(writing(writers, line.update)))
            outcomes = self._tuner.run(members, logs, progress)
        clock.seconds["prune_and_tune"] = round(clock.seconds["prune_and_tune"] / len(members), 3)
        runs = zip(plains, members, folders, outcomes, strict=True)
        return [self._finish(clock.copy(), *run) for run in runs]

    def _finish(self, clock, plain, settings, folder, outcome) -> RunResult:
        if isinstance(outcome, DivergedError):
            return RunResult(None, keep_last_good(outcome, folder))
        with clock("judge"):
            evaluated = pipeline.evaluate_with_predictions(self.context, outcome, settings)
        report = {"config": plain, **evaluated.report, "seconds": dict(clock.seconds)}
        pruned = {"variables": outcome.pruned.variables, "masks": outcome.pruned.masks}
        checkpoint.save(folder / "pruned", pruned)
        warnings = []
        sharding.by_first_process(
            lambda: warnings.extend(save_run_files(folder, self.task, outcome, evaluated, report))
        )
        # The report comes last, so that a run with a report is complete.
        text = json.dumps(report, indent=1) + "\n"
        sharding.by_first_process(lambda: write_atomically(folder / "report.json", text))
        return RunResult(report, warnings=tuple(warnings))


def keep_last_good(error: DivergedError, folder: Path) -> DivergedError:
    """Saves the last finite state of a run that diverged; the returned error says where it is."""
    epoch, state = error.last_good
    saved = {"variables": state.variables, "masks": state.masks}
    checkpoint.save(folder / "last_good", {**saved, "multipliers": state.lagrangian.multipliers})
    when = f"end of epoch {epoch}" if epoch >= 0 else "start"
    where = f"{folder / 'last_good'} holds the {when}"
    return DivergedError(f"{error} {where}.", error.last_good)


def _remove_reports(folders: Sequence[Path]) -> None:
    """Removes what earlier runs left, so that a report means that this run is complete."""
    for folder in folders:
        for name in ("report.json", "report.html", "predictions.npz"):
            (folder / name).unlink(missing_ok=True)
        for name in ("pruned", "last_good"):
            shutil.rmtree(folder / name, ignore_errors=True)


__getattr__ = former_names(
    "bap_jax.experiment",
    {
        "Bench": "bap_jax.experiment.Session",
        "Finished": "bap_jax.experiment.RunResult",
        "load": "bap_jax.task.load_task",
        "run": "bap_jax.experiment.run_experiment",
    },
)
