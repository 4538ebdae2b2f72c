"""The config of an experiment: `Settings`, and sections for data, network and dense training.

An experiment file starts from `default_config()` and changes what it needs. Unknown keys are
errors.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict

from bap_jax.errors import UserError
from bap_jax.metric_writers import find_writers
from bap_jax.metrics import find_criterion
from bap_jax.training import OptimizerSettings, Settings
from bap_jax.training.settings_checks import check_integer, check_optimizer, check_settings

# Keys that hold the name of a function, with what registers one.
_NAMES = {
    "method": "register_method",
    "optimizer.name": "register_optimizer",
    "optimizer.schedule": "register_schedule",
    "dual.optimizer": "register_optimizer",
    "dense.optimizer.name": "register_optimizer",
    "dense.optimizer.schedule": "register_schedule",
}


def default_config() -> ConfigDict:
    """Everything that may be set, at its default.

    `method` is a registered name or `module:function`, see `training.methods`; a config file may
    call `bap_jax.register_method` itself. In addition to the fields of `Settings` there are:

      loss: what is minimised, a name of `metrics.CRITERIA` or `module:function`, see
        `metrics.registry`; `correct`: what counts as right, empty for what goes with the loss.
      log: where the numbers of steps and epochs are written, names joined by commas, see
        `metric_writers`; JSON lines in any case.
      data: `name`, see `data.DATASETS`, and `dir`, the folder or file that holds the data;
        `target`, the attribute that is learned (by default the data set's label), and `group_by`,
        attributes joined by `*` (every combination) or `+` (each attribute separately); `missing`:
        `error`, or `group` to make samples without a value a group; `size` of images, 0 as stored;
        `augmentation`: `none`, `flip`, `crop_flip` or `module:function`; `table` of an image
        folder; `synthetic`, how many images to make up instead of reading files. `test_fraction`
        and `test_seed` draw the test split, `validation_fraction` and `split_seed` the validation
        split. A fraction of 0 takes the split that comes with the data set; if there is one,
        another is drawn only with `redraw`.
      model: `name`, see `models.build`; `hidden`, widths of an MLP's hidden layers; `depth` and
        `width` of a ResNet or a transformer; `stem_stride`, stride of a ResNet's first convolution;
        `vocabulary` (number of different tokens), `heads` and `expansion` (hidden units of a block
        for each feature of a token) of a transformer; `convolution`: `auto`, `loop` (gradients are
        fast in loops on CPU) or `lax`; `masked_norm`; `num_outputs`, how many logits, 0 for as many
        as classes; `pretrained`, a file of PyTorch's weights from which dense training starts, and
        `pretrained_head`: `load`, `new` or `START:STOP`, see `models.load_torch`.
      dense: `epochs` (0 if the pretrained network is the dense one), `batch_size`, `seed` and
        `optimizer` of the dense network's training, with the keys of the run's own.
    """
    return ConfigDict(
        {
            **dataclasses.asdict(Settings()),
            "loss": "classification",
            "correct": "",
            "log": "json",
            "data": {
                "name": "digits",
                "dir": "",
                "target": "",
                "group_by": "digit",
                "missing": "error",
                "size": 0,
                "augmentation": "none",
                "table": "labels.csv",
                "synthetic": 0,
                "test_fraction": 0.3,
                "test_seed": 0,
                "validation_fraction": 0.15,
                "redraw": False,
                "split_seed": 0,
            },
            "model": {
                "name": "mlp",
                "hidden": (256, 256),
                "depth": 20,
                "width": 16,
                "stem_stride": 1,
                "vocabulary": 512,
                "heads": 4,
                "expansion": 4,
                "convolution": "auto",
                "masked_norm": True,
                "num_outputs": 0,
                "pretrained": "",
                "pretrained_head": "load",
            },
            "dense": {
                "epochs": 100,
                "batch_size": 128,
                "seed": 0,
                "optimizer": dataclasses.asdict(OptimizerSettings()),
            },
        }
    )


def choose_setting(setting: str, known: Sequence[str]) -> str:
    """Checks the setting that follows the file in `--config=FILE:SETTING`.

    Args:
      setting: what follows; empty for the full setting.
      known: settings that the file has.

    Raises:
      UserError: it is neither empty nor known; the message lists the known ones.
    """
    if setting and setting not in known:
        raise UserError(
            f"unknown setting {setting!r} of this config file; known settings: {', '.join(known)}, "
            "or leave it out for the full one."
        )
    return setting


def check_keys(
    config: Mapping[str, Any], known: Mapping[str, Any] | ConfigDict, prefix: str = ""
) -> None:
    """Raises an error for unknown and for missing keys, at every level.

    Raises:
      UserError: `config` has a key that `known` lacks, or lacks one that it has; the message lists
        the known keys.
    """
    where = f"config.{prefix}" if prefix else "config."
    for key in config:
        if key not in known:
            _unknown_key(f"{where}{key}", [f"{where}{name}" for name in known])
    for key, value in known.items():
        if key not in config:
            raise UserError(f"config key {where}{key} is missing; start from default_config().")
        if isinstance(value, Mapping | ConfigDict):
            check_keys(config[key], value, f"{prefix}{key}.")


def check_flags(argv: Sequence[str]) -> None:
    """Checks the file of `--config=FILE` and the keys of `--config.KEY=VALUE`, before parsing.

    Raises:
      UserError: there is no such file or key; the message lists the known keys.
    """
    for argument in argv:
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == "config" and value:
            file = value.partition(":")[0]
            if not Path(file).is_file():
                raise UserError(f"--config={file}: there is no such file; see experiments/.")
        if not argument.lstrip("-").startswith("config.") or not argument.startswith("-"):
            continue
        _check_path(argument.lstrip("-").partition("=")[0].split(".")[1:])


def _check_path(path: Sequence[str]) -> None:
    level: Any = default_config()
    for depth, key in enumerate(path):
        where = ".".join(["config", *path[:depth], ""])
        known = list(level) if isinstance(level, ConfigDict) else []
        if key not in known:
            _unknown_key(f"{where}{key}", [f"{where}{name}" for name in known])
        level = level[key]


def to_plain(config: ConfigDict) -> dict[str, Any]:
    """A config as plain values, as JSON holds them.

    Raises:
      UserError: it holds a function where it should name one.
    """
    _check_names(config)
    return json.loads(config.to_json())


def name_hint(key: str) -> str:
    """What to write where `config.KEY` names a function."""
    return (
        f"In a config file call bap_jax.{_NAMES[key]}('mine', build) and write config.{key} = "
        f"'mine', or write config.{key} = 'module:function'."
    )


def keys_of_functions(field: str) -> list[str]:
    """The keys that end in `field` and hold the name of a function.

    Example:
      >>> keys_of_functions("name")
      ['optimizer.name', 'dense.optimizer.name']
    """
    return [key for key in _NAMES if key.split(".")[-1] == field]


def _check_names(config: Mapping[str, Any] | ConfigDict) -> None:
    for key in _NAMES:
        value: Any = config
        for part in key.split("."):
            value = value.get(part, "")
        if not isinstance(value, str):
            raise UserError(f"config.{key} must be a name; got {value!r}. {name_hint(key)}")


def to_settings(config: Mapping[str, Any]) -> Settings:
    """The settings of a run from its config as plain values; they are checked.

    Raises:
      UserError: an unknown key or method, or a value that no run can have.
    """
    check_keys(config, default_config())
    _check_names(config)
    find_writers(config["log"])
    settings = _fill(Settings, config)
    check_settings(settings)
    find_criterion(config["loss"], config["correct"])
    dense = config["dense"]
    check_optimizer(_fill(OptimizerSettings, dense["optimizer"]), "dense.optimizer.")
    check_integer("dense.seed", dense["seed"], 0)
    check_integer("data.size", config["data"]["size"], 0)
    check_integer("data.synthetic", config["data"]["synthetic"], 0)
    check_integer("data.test_seed", config["data"]["test_seed"], 0)
    check_integer("data.split_seed", config["data"]["split_seed"], 0)
    if config["data"]["missing"] not in ("error", "group"):
        raise UserError(
            f"config.data.missing must be error or group; got {config['data']['missing']!r}."
        )
    check_integer("dense.epochs", dense["epochs"], 0 if config["model"]["pretrained"] else 1)
    check_integer("dense.batch_size", dense["batch_size"], 1)
    _check_head(config["model"], dense["epochs"])
    for width in config["model"]["hidden"]:
        check_integer("model.hidden", width, 1)
    check_integer("model.num_outputs", config["model"]["num_outputs"], 0)
    for name in ("stem_stride", "width", "depth", "vocabulary", "heads", "expansion"):
        check_integer(f"model.{name}", config["model"][name], 1)
    return settings


def _check_head(model, dense_epochs):
    if not model["pretrained"] and model["pretrained_head"] != "load":
        raise UserError(
            f"config.model.pretrained_head={model['pretrained_head']!r} needs a pretrained "
            "network; name its file in config.model.pretrained."
        )
    if model["pretrained_head"] == "new" and not dense_epochs:
        raise UserError(
            "a new head must be trained before the dense network can be a reference: with "
            "config.model.pretrained_head='new' write config.dense.epochs ≥ 1."
        )


def dense_optimizer(config: Mapping[str, Any]) -> OptimizerSettings:
    """How the dense network of a config is trained."""
    return _fill(OptimizerSettings, config["dense"]["optimizer"])


def _unknown_key(key: str, known: Sequence[str]) -> NoReturn:
    raise UserError(f"unknown config key {key}; known keys: {', '.join(known) or 'none below it'}.")


def _fill(section, values):
    """An instance of the dataclass `section` from a mapping that holds at least its fields."""
    fields = {}
    for field in dataclasses.fields(section):
        value = values[field.name]
        nested = dataclasses.is_dataclass(field.default)
        fields[field.name] = _fill(type(field.default), value) if nested else value
    return section(**fields)
