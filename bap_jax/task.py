"""Data and network of a config, before anything is trained.

config.data ─► source ─► labels, groups ─► splits ─► summary
config.model ─► network ─► precision ─► preprocessing ─► initial or pretrained arrays
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bap_jax import config as config_lib
from bap_jax import data, models, pipeline, sharding
from bap_jax._deprecated import former_names
from bap_jax.config_network import digest_of_file, initialised, make_model, pretrained
from bap_jax.data.prepared import PreparedData, require_one_split, samples_of, split_samples
from bap_jax.data.registry import find_dataset
from bap_jax.data.source import skipped_text
from bap_jax.errors import UserError
from bap_jax.metrics import CLASSIFICATION, Criterion, find_criterion
from bap_jax.models.transformer import check_tokens
from bap_jax.pipeline.checks import check_run
from bap_jax.pipeline.context import execution_for
from bap_jax.training import Execution, Settings
from bap_jax.training.criterion_checks import check_criterion, logits_shape, num_outputs
from bap_jax.training.optimizer_checks import check_primal_optimizer
from bap_jax.types import Variables

__all__ = [
    "Task",
    "check_task",
    "load_splits",
    "load_task",
    "make_model",
    "pretrained",
]

_ALL_DEVICES = Execution(devices=0)


class Task(NamedTuple):
    """Data and network of a config, before anything is trained.

    Attributes:
      plain: the config as plain values.
      splits: of the data.
      model: the network.
      untrained: its initial or pretrained arrays.
      summary: of the data, see `data.summarize`.
      criterion: what is minimised, and what counts as right.
      digest: changes with the samples, their labels, which split each is in, and the content of the
        pretrained file.
    """

    plain: dict[str, Any]
    splits: data.Splits
    model: models.Model
    untrained: Variables
    summary: dict[str, Any]
    digest: str
    criterion: Criterion = CLASSIFICATION


def load_task(plain: dict[str, Any], execution: Execution = _ALL_DEVICES) -> Task:
    """Loads and splits the data, and builds the network.

    Args:
      plain: the config as plain values.
      execution: only its `data_cache` is used; if that is empty, decoded images are not kept.

    Raises:
      UserError: there is a mistake in the config or the data, or there is nothing to prune.
    """
    settings = config_lib.to_settings(plain)
    cache = Path(execution.data_cache).expanduser() if execution.data_cache else None
    key = jax.random.key(plain["dense"]["seed"])

    criterion = find_criterion(plain["loss"], plain["correct"])

    @functools.cache  # built only once, although the check before decoding needs it, too
    def network_of(num_classes):
        network = make_model(
            plain["model"], num_outputs(criterion, num_classes, plain["model"]["num_outputs"])
        )
        file = plain["model"]["pretrained"]
        return network, pretrained(network, plain["model"], key) if file else None

    splits, preprocess, summary = load_splits(plain["data"], cache, network_of)
    network, untrained = network_of(splits.num_classes)
    model = models.in_precision(network, settings.precision)
    if preprocess is not None:
        model = models.with_preprocessing(model, preprocess)
    example = data.example(splits.train)
    if untrained is None:
        untrained = initialised(model, key, example, plain["model"]["name"])
    task = Task(plain, splits, model, untrained, summary, "", criterion)
    _check_network(task, settings, network.module)
    digest = summary["digest"] + digest_of_file(plain["model"]["pretrained"])
    return task._replace(digest=digest)


def _check_network(task: Task, settings: Settings, module) -> None:
    """Checks of data, network and settings together, before anything is trained."""
    plain, splits, model, untrained, _, _, criterion = task
    pipeline.check_optimizers(settings, untrained.params)
    dense = config_lib.dense_optimizer(plain)
    check_primal_optimizer(dense, untrained.params, "dense.optimizer.")
    check_run(model, untrained, splits, settings)
    if criterion != CLASSIFICATION or plain["model"]["num_outputs"]:
        logits = logits_shape(model, untrained, data.example(splits.train))
        check_criterion(criterion, logits, splits, settings)
    for split in (splits.train, splits.validation, splits.test):
        if not isinstance(split.inputs, data.Records):  # which are read later
            check_tokens(module, split.inputs)


def check_task(plain: dict[str, Any], execution: Execution = _ALL_DEVICES) -> dict[str, Any]:
    """Finds mistakes in data, network and execution before anything is trained.

    Returns:
      The summary of the data.

    Raises:
      UserError: see `load_task`, or this network and data cannot be executed as asked.
    """
    task = load_task(plain, execution)
    execution_for(task.model, task.untrained, task.splits.train, execution).mesh()
    return task.summary


def load_splits(
    data_config: dict[str, Any],
    cache: Path | None = None,
    check_classes: Callable[[int | None], object] = lambda num_classes: None,
) -> tuple[data.Splits, data.Preprocess | None, dict[str, Any]]:
    """Loads the data set of `config.data` and splits it.

    Args:
      data_config: `config.data` as plain values.
      cache: folder that keeps decoded images; None keeps nothing.
      check_classes: called with the number of classes, None if there are none, before images are
        decoded, together with every other check that needs no images.

    Returns:
      The splits, how their inputs become inputs of the network, and their summary.

    Raises:
      UserError: there is a mistake in the config or the data.
    """
    if data_config["synthetic"] and data_config["dir"]:
        raise UserError(
            f"config.data.synthetic={data_config['synthetic']} makes images up, and would not read "
            f"those in {data_config['dir']}: leave --data_dir out, or write "
            "config.data.synthetic=0."
        )
    options = {name: data_config[name] for name in ("dir", "size", "table", "synthetic")}

    def check(source):
        check_classes(_split(source, data_config).splits.num_classes)

    request = data.Request(**options, cache=cache, check=check)
    if jax.process_count() > 1:  # the first process fills the cache for others on the same disk
        sharding.by_first_process(lambda: data.load(data_config["name"], request))
    source = data.load(data_config["name"], request)
    prepared = _split(source, data_config)
    summary = prepared.summary()
    summary["made_up"] = bool(data_config["synthetic"])
    summary["digest"] = _digest_of(source.identity, prepared.samples.data.labels, prepared.indices)
    return prepared.splits, prepared.samples.preprocess, summary


def _split(source: data.Source, data_config) -> PreparedData:
    """The splits of a source as `config.data` describes them."""
    with _mentioning_skipped(source):
        group_by = data_config["group_by"] or find_dataset(data_config["name"]).group_by
        samples = samples_of(
            source,
            group_by,
            data_config["target"],
            data_config["augmentation"],
            data_config["missing"],
        )
        return split_samples(
            samples,
            len(samples.class_names) or None,
            test_indices=_test_indices(source, data_config),
            validation_indices=_validation_indices(source, data_config),
            validation_fraction=data_config["validation_fraction"],
            seed=data_config["split_seed"],
        )


@contextlib.contextmanager
def _mentioning_skipped(source):
    """Adds skipped samples to an error: a group may lack samples because their files are bad."""
    try:
        yield
    except UserError as error:
        if not source.skipped:
            raise
        raise UserError(f"{error} In addition, {skipped_text(source)}") from error


def _test_indices(source, data_config):
    """`(test sample,)`: drawn at random, or the source's own."""
    fraction, drawn = data_config["test_fraction"], None
    if fraction:
        seed = data_config["test_seed"]
        drawn = data.random_test_indices(source.size, fraction, seed)
    own = None if fraction and data_config["redraw"] else source.test_indices
    require_one_split(own, drawn, **_split_errors("test", data_config["name"]))
    return own if drawn is None else drawn


def _validation_indices(source, data_config):
    """`(validation sample,)` of the source's own split; None to draw one at random."""
    fraction = data_config["validation_fraction"] or None
    own = None if fraction and data_config["redraw"] else source.validation_indices
    require_one_split(own, fraction, **_split_errors("validation", data_config["name"]))
    return own


def _split_errors(split, name):
    """Texts for `require_one_split`."""
    return {
        "if_both": f"data set {name!r} brings its own {split} split: write "
        f"config.data.{split}_fraction=0 to use it, or config.data.redraw=True to draw another.",
        "if_neither": f"data set {name!r} has no {split} split of its own; write a fraction in "
        f"(0, 1), such as config.data.{split}_fraction=0.2.",
    }


def _digest_of(identity, labels, indices):
    """Changes with the samples, their labels, and which split each is in."""
    sha256 = hashlib.sha256(identity.encode())
    for array in (*jax.tree.leaves(labels), *indices.values()):
        # Ids of any width are the same ids; labels of other types count as they are.
        is_integer = np.issubdtype(np.asarray(array).dtype, np.integer)
        sha256.update(np.asarray(array, np.int64 if is_integer else None).tobytes())
    return sha256.hexdigest()


__getattr__ = former_names(
    "bap_jax.task",
    {
        "check": "bap_jax.task.check_task",
        "load": "bap_jax.task.load_task",
        "make_parts": "bap_jax.task.load_splits",
    },
)
