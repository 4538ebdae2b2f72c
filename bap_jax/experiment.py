"""One run from a config: the story of the paper's section 5, a short function a phase.

settings ─► parts ─► dense model ─► pruned and tuned iterates ─► report
"""

import contextlib
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import tqdm
from absl import logging
from ml_collections import ConfigDict

from bap_jax import audit, checkpoint, data, models, pipeline, training
from bap_jax import config as config_lib
from bap_jax.metric_rows import json_lines
from bap_jax.training.settings import Settings
from bap_jax.types import Variables
from bap_jax.workdir import Workdir, claim


def run(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs one method with one seed and writes everything into `workdir`.

    Args:
      config: see `config.default_config`.
      workdir: see `workdir`; runs that differ only in method and seed share one.

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
    with clock("data"):
        parts = make_parts(plain["data"])
        model = make_model(plain["model"], parts.num_classes)
        like = model.init(jax.random.key(plain["dense"]["seed"]), parts.train.inputs[:1])
        pipeline.prunable_leaves(model, like, parts.train.inputs[:1], settings)
    here = claim(workdir, plain)
    with clock("dense"):
        dense = dense_model(model, like, parts, plain, here)
    folder = here.run(settings.method, settings.seed)
    folder.mkdir(exist_ok=True)
    (folder / "report.json").unlink(missing_ok=True)  # of an earlier run, until this one is whole
    with clock("prune_and_tune"), json_lines(folder / "metrics.jsonl") as log:
        bar = functools.partial(_progress, label=settings.method)
        try:
            tuned = pipeline.prune_and_tune(model, dense, parts, settings, log=log, progress=bar)
        except training.DivergedError as error:
            raise keep_last_good(error, folder) from error
    with clock("judge"):
        found = pipeline.judge(model, dense, tuned, parts, settings)
    report = {"config": plain, **found, "seconds": clock.seconds}
    write(report, tuned, here, settings)
    return report


def make_parts(choice: dict[str, Any]) -> data.Parts:
    """Loads, groups and splits the data set of `config.data`."""
    source = data.load(choice["name"])
    samples, group_names = source.grouped_by(choice["group_by"], choice["group_join"])
    test = data.random_test_indices(samples.size, choice["test_fraction"], choice["test_seed"])
    return data.make_parts(
        samples,
        source.num_classes,
        group_names,
        test_indices=test,
        validation_fraction=choice["validation_fraction"],
        seed=choice["split_seed"],
    )


def make_model(choice: dict[str, Any], num_classes: int) -> models.Model:
    """Builds the network of `config.model` from those of its keys that this network takes."""
    taken = {name: choice[name] for name in models.options(choice["name"])}
    return models.build(choice["name"], num_classes, **taken)


def dense_model(
    model: models.Model,
    variables: Variables,
    parts: data.Parts,
    plain: dict[str, Any],
    here: Workdir,
) -> Variables:
    """The dense network of this workdir: from its cache, or trained and put there."""
    if checkpoint.exists(here.dense):
        try:
            return checkpoint.load(here.dense, variables)
        except checkpoint.DamagedCheckpointError as error:
            logging.warning("%s; training the dense model anew", error)
    dense = pipeline.train_dense(
        model,
        variables,
        parts.train,
        config_lib.dense_optimizer(plain),
        epochs=plain["dense"]["epochs"],
        batch_size=plain["dense"]["batch_size"],
        seed=plain["dense"]["seed"],
        progress=functools.partial(_progress, label="dense"),
    )
    checkpoint.save(here.dense, dense)
    return dense


def keep_last_good(error: training.DivergedError, folder: Path) -> training.DivergedError:
    """Saves the last finite state of a run that diverged; the new error says where it lies."""
    epoch, state = error.last_good
    saved = {"variables": state.variables, "masks": state.masks}
    checkpoint.save(folder / "last_good", {**saved, "multipliers": state.lagrangian.multipliers})
    where = f"{folder / 'last_good'} holds the end of epoch {epoch}"
    return training.DivergedError(f"{error} {where}.", error.last_good)


def write(report: dict[str, Any], tuned: pipeline.Tuned, here: Workdir, settings: Settings) -> None:
    """Report, selected network and figure; the report last, so that a run with one is whole."""
    folder = here.run(settings.method, settings.seed)
    selected = {"variables": tuned.selected.variables, "masks": tuned.selected.masks}
    checkpoint.save(folder / "selected", selected)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    here.publish(folder)
    audit.draw_disparity(here.reports(), here.figure)


class _Clock:
    """Seconds spent in each phase."""

    def __init__(self):
        self.seconds = {}

    @contextlib.contextmanager
    def __call__(self, phase):
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(time.perf_counter() - start, 3)


def _progress(epochs, label):
    return tqdm.tqdm(epochs, desc=label, unit="epoch", leave=False, disable=None)
