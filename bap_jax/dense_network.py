"""The dense network that runs start from: what made it, and when it is read instead of trained.

WORKDIR/
  dense/            the dense network of the runs in this workdir
  dense.json        what made it: every value that its arrays depend on
  dense-DIGEST/     a network that something else made before any run had finished

It is read whenever what made it is the same, whatever else has changed: data (samples, labels,
training split, scale of pixels, augmentation), network, pretrained file, `dense.*`, precision.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tqdm
from absl import logging

from bap_jax import checkpoint, models, pipeline, sharding
from bap_jax import config as config_lib
from bap_jax.config_identity import ADDED, deciding
from bap_jax.errors import UserError
from bap_jax.task import Task
from bap_jax.training import Execution
from bap_jax.types import Variables
from bap_jax.workdir import Workdir, flatten_config, read_json, write_atomically

_ALL_DEVICES = Execution(devices=0)
_DIGEST = "data.digest"
# Of the section `data`; the digest covers which samples there are and how they are split.
_OF_DATA = ("name", "target", "size", "augmentation", "synthetic")
_OF_ANY_MODEL = ("name", "pretrained_head", "num_outputs")
_WHOLE = ("precision", "loss")


def made_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What a dense network depends on, as far as the config says it, by dotted key.

    Args:
      plain: the config as plain values.
    """
    model, data = plain["model"], plain["data"]
    options = (*_OF_ANY_MODEL, *models.options(model["name"]))
    found = {
        "data": {key: data[key] for key in _OF_DATA},
        "model": {key: model[key] for key in options},
        "dense": plain["dense"],
        **{key: plain[key] for key in _WHOLE},
    }
    return flatten_config(json.loads(json.dumps(deciding(found))))


def recorded(folder: Path) -> dict[str, Any] | None:
    """What made the network in `folder`; None if that is not known."""
    record = read_json(_record_of(folder))
    former = folder.with_name(f"{folder.name}.data")  # of an earlier release
    if record is None and former.is_file():
        return {_DIGEST: former.read_text()}
    return record


def differences(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what a network that was recorded differs from the one that is wanted, in words.

    Of an earlier release only the digest of the data is known.
    """
    found = []
    for key in sorted({*record, *now} - {_DIGEST} if set(record) - {_DIGEST} else ()):
        before, value = (values.get(key, ADDED.get(key)) for values in (record, now))
        if before != value:
            found.append(f"config.{key} is {before} in the workdir and {value} now")
    if _DIGEST in now and record.get(_DIGEST) not in (None, now[_DIGEST]):
        found.append(
            "it was trained on other samples, another training split or from another pretrained "
            "file, so some of its samples may now be test samples"
        )
    return found


def check_same_network(folder: Path, now: Mapping[str, Any]) -> None:
    """Checks that the network in `folder` was made from what is wanted now.

    Args:
      folder: of its checkpoint, which need not exist.
      now: from `made_of`, perhaps with the digest of the data.

    Raises:
      UserError: it was not; the message says in what they differ.
    """
    found = differences(recorded(folder) or {}, now)
    if found:
        raise UserError(
            f"the dense network in {folder}, from which the runs there start, is another one: "
            f"{'; '.join(found)}. Use a separate --workdir."
        )


def put_in_place(workdir: Workdir, task: Task) -> None:
    """Makes `dense/` the network that a task starts from, or leaves it free for that one.

    Once a run has finished, all runs in the workdir start from the same dense network, and nothing
    is done. Before that, a network that something else made is moved aside, and moved back when it
    is wanted again.

    Args:
      workdir: where the task is run.
      task: data and untrained network.
    """
    if workdir.has_finished_runs():
        return
    folder, now = workdir.dense, _made(task)
    record = recorded(folder)
    is_another = record is not None and (len(record) == 1 or differences(record, now))
    if folder.exists() and is_another:
        _move(folder, _aside(folder, record))
    if not folder.exists() and _aside(folder, now).exists():
        _move(_aside(folder, now), folder)


def _made(task):
    return {**made_of(task.plain), _DIGEST: task.digest}


def _aside(folder, record):
    text = json.dumps(record, sort_keys=True)
    return folder.with_name(f"{folder.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")


def _record_of(folder):
    return folder.with_name(f"{folder.name}.json")


def _move(source, target):
    """Moves a network with its record."""
    source.rename(target)
    if _record_of(source).exists():
        _record_of(source).rename(_record_of(target))


def dense_model(task: Task, folder: Path, execution: Execution = _ALL_DEVICES) -> Variables:
    """The dense network of a task: read from `folder`, or trained and saved there.

    Args:
      task: data and untrained network.
      folder: of its checkpoint.
      execution: how programs run.

    Raises:
      UserError: the network in `folder` was made from something else, or has other arrays.
    """
    if checkpoint.exists(folder):
        sharding.by_first_process(lambda: check_same_network(folder, _made(task)))
        try:
            return checkpoint.restore(folder, task.untrained)
        except checkpoint.DamagedCheckpointError as error:
            logging.warning("%s; training the dense model again", error)
    sharding.by_first_process(lambda: _write_record(folder, task))
    dense = task.untrained
    options = task.plain["dense"]
    if options["epochs"]:
        dense = pipeline.train_dense(
            task.model,
            task.untrained,
            task.splits.train,
            config_lib.dense_optimizer(task.plain),
            epochs=options["epochs"],
            batch_size=options["batch_size"],
            seed=options["seed"],
            progress=functools.partial(progress_bar, label="dense"),
            execution=execution,
            criterion=task.criterion,
        )
    checkpoint.save(folder, dense)
    return dense


def _write_record(folder: Path, task: Task) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(_record_of(folder), json.dumps(_made(task), indent=1) + "\n")


def progress_bar(epochs: Iterable[int], label: str) -> Iterable[int]:
    """The epochs with a bar, in the first process and in a terminal only."""
    hidden = None if sharding.is_first_process() else True  # None: hidden without a terminal
    return tqdm.tqdm(epochs, desc=label, unit="epoch", leave=False, disable=hidden)
