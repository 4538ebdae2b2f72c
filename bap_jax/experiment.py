"""One run from a config: the story of the paper's section 5, a short function a phase.

settings ─► splits ─► dense model ─► pruned and tuned iterates ─► report

A `Session` holds what runs that differ in method, seed and the like share; a sweep runs several
in one session.
"""

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tqdm
from absl import logging
from ml_collections import ConfigDict

from bap_jax import audit, checkpoint, pipeline, sharding, training
from bap_jax import config as config_lib
from bap_jax._deprecated import former_names
from bap_jax.metric_rows import json_lines
from bap_jax.task import Task, load_task
from bap_jax.training import Execution
from bap_jax.types import UserError, Variables
from bap_jax.workdir import DATA_CACHE, Workdir, check_workdir, open_workdir, write_atomically

_ALL_DEVICES = Execution(devices=0)


class RunResult(NamedTuple):
    """What became of a run.

    Attributes:
      report: as written to `report.json`; None if the run diverged.
      error: why and where it diverged.
    """

    report: dict[str, Any] | None
    error: training.DivergedError | None = None


def run_experiment(
    config: ConfigDict,
    workdir: str | Path,
    execution: Execution = _ALL_DEVICES,
    before: "Callable[[Session, Path], None] | None" = None,
    on_data: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Runs one method with one seed and writes everything into `workdir`.

    Args:
      config: see `config.default_config`.
      workdir: see `workdir`; runs that differ only in method and seed share one.
      execution: how programs run on this machine.
      before: called with the session and the run's folder before the run.
      on_data: called with the summary of the data before anything is trained.

    Returns:
      The report, as written to `report.json`.

    Raises:
      UserError: a mistake in the config or the data, before anything is trained.
      training.DivergedError: a number that is not finite; the folder `last_good` of the run then
        holds the state before.
    """
    plain = json.loads(config.to_json())
    settings = config_lib.to_settings(plain)
    clock = _Clock()
    here = Workdir(workdir)
    sharding.by_first_process(lambda: check_workdir(workdir, plain))
    execution = caching_in(execution, here.root)
    with clock("data"):
        task = load_task(plain, execution)
    sharding.by_first_process(lambda: open_workdir(workdir, plain))
    text = json.dumps(task.summary, indent=1) + "\n"
    sharding.by_first_process(lambda: write_atomically(here.root / "data.json", text))
    if on_data is not None:
        on_data(task.summary)
    session = Session(task, here.dense, execution, clock)
    folder = here.run_folder(settings.method, settings.seed)
    sharding.by_first_process(lambda: folder.mkdir(exist_ok=True))
    if before is not None:
        before(session, folder)
    bar = functools.partial(_progress, label=settings.method)
    [found] = session.run([plain], [folder], bar)
    if found.error:
        raise found.error
    sharding.by_first_process(lambda: _publish(here, folder))
    return found.report


def _publish(here, folder):
    here.publish(folder)
    audit.draw_disparity(here.reports(), here.figure)


def caching_in(execution: Execution, root: Path) -> Execution:
    """The execution with a folder of decoded images below `root`, unless it names one."""
    return dataclasses.replace(execution, data_cache=execution.data_cache or str(root / DATA_CACHE))


def dense_model(task: Task, folder: Path, execution: Execution = _ALL_DEVICES) -> Variables:
    """The dense network of a task: from its cache in `folder`, or trained and put there.

    Raises:
      UserError: the one in the cache was trained on other samples, other splits of them, or from
        another pretrained file, or is of another network.
    """
    mark = folder.with_name(f"{folder.name}.data")
    if checkpoint.exists(folder):
        if mark.exists() and mark.read_text() != task.digest:
            raise UserError(
                f"the dense network in {folder} was trained on other samples, another training "
                "split or from another pretrained file; some of its samples may be test samples "
                "now. Choose another --workdir."
            )
        try:
            return checkpoint.restore(folder, task.untrained)
        except checkpoint.DamagedCheckpointError as error:
            logging.warning("%s; training the dense model anew", error)
    chosen = task.plain["dense"]
    sharding.by_first_process(lambda: _mark(mark, task))
    if not chosen["epochs"]:
        checkpoint.save(folder, task.untrained)
        return task.untrained
    dense = pipeline.train_dense(
        task.model,
        task.untrained,
        task.splits.train,
        config_lib.dense_optimizer(task.plain),
        epochs=chosen["epochs"],
        batch_size=chosen["batch_size"],
        seed=chosen["seed"],
        progress=functools.partial(_progress, label="dense"),
        execution=execution,
    )
    checkpoint.save(folder, dense)
    return dense


def _mark(path, task):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, task.digest)


class Session:
    """A task with its dense network, on which runs of one structure are laid.

    Args:
      task: data and network, or the config of any of the runs as plain values.
      dense_folder: where the dense network lies, or is put.
      execution: how programs run.
      clock: of the phases so far.

    Raises:
      UserError: a mistake in the config or the data, before anything is trained.
    """

    def __init__(
        self,
        task: Task | dict[str, Any],
        dense_folder: Path,
        execution: Execution = _ALL_DEVICES,
        clock: "_Clock | None" = None,
    ):
        self._clock = clock or _Clock()
        task = load_task(task, execution) if isinstance(task, dict) else task
        self.task = task._replace(splits=pipeline.read_what_fits(task.splits, execution))
        with self._clock("dense"):
            dense = dense_model(self.task, Path(dense_folder), execution)
            self.context = pipeline.make_context(
                self.task.model, dense, self.task.splits, execution
            )
        self._tuner = None

    def capacity(self, count: int) -> int:
        """How many of `count` members a program takes."""
        settings = config_lib.to_settings(self.task.plain)
        return pipeline.capacity(self.context, settings, count)

    def run(
        self,
        plains: Sequence[dict[str, Any]],
        folders: Sequence[Path],
        progress: training.Progress = iter,
    ) -> list[RunResult]:
        """Runs members of one program.

        Args:
          plains: their configs as plain values; they differ in `training.SWEPT` only.
          folders: one for each; takes `metrics.jsonl`, `selected` and at last `report.json`, or if
            the run diverges `last_good`. Each reports its share of the time that they took.
          progress: wraps the range of epochs.
        """
        members = [config_lib.to_settings(plain) for plain in plains]
        clock = self._clock.copy()
        self._tuner = self._tuner or pipeline.make_tuner(self.context, members[0])
        sharding.by_first_process(lambda: _remove_reports(folders))
        with clock("prune_and_tune"), contextlib.ExitStack() as files:
            logs = [files.enter_context(json_lines(_log_file(folder))) for folder in folders]
            outcomes = self._tuner.run(members, logs, progress)
        clock.seconds["prune_and_tune"] = round(clock.seconds["prune_and_tune"] / len(members), 3)
        found = zip(plains, members, folders, outcomes, strict=True)
        return [self._finish(clock.copy(), *run) for run in found]

    def _finish(self, clock, plain, settings, folder, outcome):
        if isinstance(outcome, training.DivergedError):
            return RunResult(None, keep_last_good(outcome, folder))
        with clock("judge"):
            judged = pipeline.evaluate_final(self.context, outcome, settings)
        report = {"config": plain, **judged, "seconds": dict(clock.seconds)}
        selected = {"variables": outcome.selected.variables, "masks": outcome.selected.masks}
        checkpoint.save(folder / "selected", selected)
        # The report last, so that a run with one is whole.
        text = json.dumps(report, indent=1) + "\n"
        sharding.by_first_process(lambda: write_atomically(folder / "report.json", text))
        return RunResult(report)


def keep_last_good(error: training.DivergedError, folder: Path) -> training.DivergedError:
    """Saves the last finite state of a run that diverged; the new error says where it lies."""
    epoch, state = error.last_good
    saved = {"variables": state.variables, "masks": state.masks}
    checkpoint.save(folder / "last_good", {**saved, "multipliers": state.lagrangian.multipliers})
    where = f"{folder / 'last_good'} holds the end of epoch {epoch}"
    return training.DivergedError(f"{error} {where}.", error.last_good)


class _Clock:
    """Seconds spent in each phase."""

    def __init__(self, seconds=()):
        self.seconds = dict(seconds)

    @contextlib.contextmanager
    def __call__(self, phase):
        start = time.perf_counter()
        yield
        spent = self.seconds.get(phase, 0) + time.perf_counter() - start
        self.seconds[phase] = round(spent, 3)

    def copy(self):
        """A clock that goes on from here."""
        return _Clock(self.seconds)


def _remove_reports(folders):
    """Those of earlier runs, until these are whole."""
    for folder in folders:
        (folder / "report.json").unlink(missing_ok=True)


def _log_file(folder):
    return folder / "metrics.jsonl" if sharding.is_first_process() else Path("/dev/null")


def _progress(epochs, label):
    hidden = None if sharding.is_first_process() else True  # None: where there is no terminal
    return tqdm.tqdm(epochs, desc=label, unit="epoch", leave=False, disable=hidden)


__getattr__ = former_names(
    "bap_jax.experiment",
    {
        "Bench": "bap_jax.experiment.Session",
        "Finished": "bap_jax.experiment.RunResult",
        "run": "bap_jax.experiment.run_experiment",
    },
)
