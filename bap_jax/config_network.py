"""The network of a config: built by its name, initialised or read from a file.

config.model ─► network ─► initial or pretrained arrays
"""

import hashlib
from pathlib import Path
from typing import Any

import jax
from absl import logging

from bap_jax import models
from bap_jax.data.input_arrays import describe
from bap_jax.errors import UserError
from bap_jax.types import PyTree, Variables


def make_model(model_config: dict[str, Any], num_classes: int) -> models.Model:
    """Builds the network of `config.model` from those of its keys that apply to this network.

    Raises:
      UserError: the name of the network is unknown, or a key has an unsuitable value.
    """
    name = model_config["name"]
    options = {key: model_config[key] for key in models.options(name)}
    return models.build(name, num_classes, **options)


def pretrained(network: models.Model, model_config: dict[str, Any], key: jax.Array) -> Variables:
    """Loads the arrays of `config.model.pretrained`, and logs what was not used.

    Args:
      network: from `make_model`.
      model_config: `config.model` as plain values.
      key: initialises what the file does not hold.

    Raises:
      UserError: the file does not match the network; see `models.load_torch`.
    """
    path = str(Path(model_config["pretrained"]).expanduser())
    loaded = models.load_torch(path, network, head=model_config["pretrained_head"], key=key)
    notes = [f"not used: {', '.join(loaded.unused)}"] if loaded.unused else []
    notes += [f"initialised at random: {', '.join(loaded.fresh)}"] if loaded.fresh else []
    if notes:
        logging.warning("%s: %s", model_config["pretrained"], "; ".join(notes))
    return loaded.variables


def initialised(model: models.Model, key: jax.Array, inputs: PyTree, name: str) -> Variables:
    """Untrained arrays of a network.

    Args:
      model: the network.
      key: random key.
      inputs: `(batch, ...)`; only shapes and types matter.
      name: of the network in the config.

    Raises:
      UserError: the network does not take such inputs.
    """
    try:
        return model.init(key, inputs)
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError) as error:  # as networks raise for wrong shapes
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the network config.model.name={name!r} cannot be applied to inputs of "
            f"{describe(inputs)}: {text}. Choose a network that takes such inputs, or call "
            "bap_jax.prune_and_tune with your own."
        ) from error


def digest_of_file(path: str) -> str:
    """Changes with the content of a file; empty for no file."""
    if not path:
        return ""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
