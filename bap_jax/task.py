"""Data and network of a config, before anything is trained.

config.data ─► source ─► labels, groups ─► splits ─► summary
config.model ─► network ─► precision ─► preprocessing ─► first arrays, or pretrained ones
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from bap_jax import config as config_lib
from bap_jax import data, models, pipeline, sharding
from bap_jax._deprecated import former_names
from bap_jax.training import Execution
from bap_jax.types import UserError, Variables

_ALL_DEVICES = Execution(devices=0)


class Task(NamedTuple):
    """Data and network of a config, before anything is trained.

    Attributes:
      plain: the config as plain values.
      splits: of the data.
      model: the network.
      untrained: its first arrays.
      summary: of the data, see `data.summarize`.
      digest: changes with the samples, their labels, which split each is in, and the content of the
        pretrained file.
    """

    plain: dict[str, Any]
    splits: data.Splits
    model: models.Model
    untrained: Variables
    summary: dict[str, Any]
    digest: str


def load_task(plain: dict[str, Any], execution: Execution = _ALL_DEVICES) -> Task:
    """Loads and splits the data, and builds the network.

    Args:
      plain: the config as plain values.
      execution: of which only `data_cache` has a say; where empty, nothing is kept.

    Raises:
      UserError: a mistake in the config or the data, or nothing is left to prune.
    """
    settings = config_lib.to_settings(plain)
    cache = Path(execution.data_cache).expanduser() if execution.data_cache else None
    key = jax.random.key(plain["dense"]["seed"])

    @functools.cache  # once for the check before decoding, and here
    def network_of(num_classes):
        network = make_model(plain["model"], num_classes)
        wanted = plain["model"]["pretrained"]
        return network, pretrained(network, plain["model"], key) if wanted else None

    splits, preprocess, summary = load_splits(plain["data"], cache, network_of)
    network, untrained = network_of(splits.num_classes)
    model = models.in_precision(network, settings.precision)
    if preprocess is not None:
        model = models.with_preprocessing(model, preprocess)
    example = data.example(splits.train)
    if untrained is None:
        untrained = model.init(key, example)
    pipeline.find_prunable(model, untrained, example, settings)
    digest = summary["digest"] + _digest_of_file(plain["model"]["pretrained"])
    return Task(plain, splits, model, untrained, summary, digest)


def check_task(plain: dict[str, Any], execution: Execution = _ALL_DEVICES) -> dict[str, Any]:
    """Finds mistakes in data, network and execution before anything is trained.

    Returns:
      The summary of the data.

    Raises:
      UserError: as of `load_task`, or the execution cannot be with this network and data.
    """
    task = load_task(plain, execution)
    pipeline.resolve_execution(task.model, task.untrained, task.splits.train, execution).mesh()
    return task.summary


def load_splits(
    choice: dict[str, Any],
    cache: Path | None = None,
    check_classes: Callable[[int], object] = lambda num_classes: None,
) -> tuple[data.Splits, data.Preprocess | None, dict[str, Any]]:
    """The data set of `config.data`: its splits, what is done to its inputs, and its summary.

    Whatever can be known before images are decoded is checked before; `check_classes` is then
    called with the number of classes.
    """
    if choice["synthetic"] and choice["dir"]:
        raise UserError(
            f"config.data.synthetic={choice['synthetic']} makes images up, and would not read "
            f"those in {choice['dir']}: leave --data_dir out, or write config.data.synthetic=0."
        )
    asked = {name: choice[name] for name in ("dir", "size", "table", "synthetic")}

    def check(source):
        with _naming_what_was_left_out(source):
            check_classes(_chosen(source, choice).splits.num_classes)

    request = data.Request(**asked, cache=cache, check=check)
    if jax.process_count() > 1:  # the first one fills the cache for those on the same disk
        sharding.by_first_process(lambda: data.load(choice["name"], request))
    source = data.load(choice["name"], request)
    with _naming_what_was_left_out(source):
        return _splits_of(source, choice)


@contextlib.contextmanager
def _naming_what_was_left_out(source):
    """A group without samples may be one whose files could not be read."""
    try:
        yield
    except UserError as error:
        if not source.skipped:
            raise
        raise UserError(
            f"{error} Beside that {len(source.skipped)} samples were left out, the first: "
            f"{source.skipped[0]}"
        ) from error


class _Chosen(NamedTuple):
    """What a config makes of a source."""

    splits: data.Splits
    indices: dict[str, Any]
    labels: Any
    class_names: tuple[str, ...]
    preprocess: data.Preprocess | None


def _chosen(source, choice):
    preprocess = source.preprocess(choice["augmentation"])
    samples, group_names = source.grouped_by(choice["group_by"], choice["target"])
    class_names = source.labelled(choice["target"])[1]
    split = {
        "test_indices": _own_or_drawn(source, choice),
        "validation_indices": _own_validation(source, choice),
        "validation_fraction": choice["validation_fraction"],
        "seed": choice["split_seed"],
    }
    splits = data.make_splits(samples, len(class_names), group_names, **split)
    indices = data.split_indices(samples.group_ids, **split)
    return _Chosen(splits, indices, samples.labels, class_names, preprocess)


def _splits_of(source, choice):
    chosen = _chosen(source, choice)
    summary = data.summarize(
        chosen.splits,
        chosen.class_names,
        digests=source.digests,
        indices=chosen.indices,
        skipped=source.skipped,
        converted=source.converted,
    )
    summary["made_up"] = bool(choice["synthetic"])
    summary["digest"] = _digest_of(source.identity, chosen.labels, chosen.indices)
    return chosen.splits, chosen.preprocess, summary


def _digest_of(identity, labels, indices):
    """Changes with the samples, their labels, and which split each is in."""
    found = hashlib.sha256(identity.encode())
    for array in (labels, *indices.values()):
        found.update(np.asarray(array, np.int64).tobytes())
    return found.hexdigest()


def _digest_of_file(path):
    if not path:
        return ""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_or_drawn(source, choice):
    if choice["test_fraction"]:
        _check_redrawn(source.test_indices, "test", choice)
        size = len(source.inputs)
        return data.random_test_indices(size, choice["test_fraction"], choice["test_seed"])
    return _own(source.test_indices, "test", choice)


def _own_validation(source, choice):
    if choice["validation_fraction"]:
        _check_redrawn(source.validation_indices, "validation", choice)
        return None
    return _own(source.validation_indices, "validation", choice)


def _check_redrawn(indices, split, choice):
    if indices is not None and not choice["redraw"]:
        raise UserError(
            f"data set {choice['name']!r} brings its own {split} split: write "
            f"config.data.{split}_fraction=0 to use it, or config.data.redraw=True to draw another."
        )


def _own(indices, split, choice):
    if indices is None:
        raise UserError(
            f"data set {choice['name']!r} has no {split} split of its own; write a fraction in "
            f"(0, 1), such as config.data.{split}_fraction=0.2."
        )
    return indices


def make_model(choice: dict[str, Any], num_classes: int) -> models.Model:
    """Builds the network of `config.model` from those of its keys that this network takes."""
    taken = {name: choice[name] for name in models.options(choice["name"])}
    return models.build(choice["name"], num_classes, **taken)


def pretrained(network: models.Model, choice: dict[str, Any], key: jax.Array) -> Variables:
    """The arrays of `config.model.pretrained`; what of the file was not used is told."""
    path = str(Path(choice["pretrained"]).expanduser())
    found = models.load_torch(path, network, head=choice["pretrained_head"], key=key)
    told = [f"not used: {', '.join(found.unused)}"] if found.unused else []
    told += [f"drawn anew: {', '.join(found.fresh)}"] if found.fresh else []
    if told:
        logging.warning("%s: %s", choice["pretrained"], "; ".join(told))
    return found.variables


__getattr__ = former_names(
    "bap_jax.task",
    {
        "check": "bap_jax.task.check_task",
        "load": "bap_jax.task.load_task",
        "make_parts": "bap_jax.task.load_splits",
    },
)
