"""Networks that take inputs in the form in which they are stored.

    logits = network(preprocess(inputs))

Inputs stay small, for instance uint8, until they are on the device; normalisation and augmentation
are part of the compiled step.
"""

import jax

from bap_jax.models.base import Model
from bap_jax.types import Preprocess


def with_preprocessing(model: Model, preprocess: Preprocess) -> Model:
    """The model with `preprocess` before it.

    If there is a key, it is split into one key for augmentation and one for the network. `export`
    returns the network alone.

    Args:
      model: takes inputs `(batch, ...)` as `preprocess` returns them.
      preprocess: `(inputs (batch, ...), key or None, train) -> inputs (batch, ...)`.
    """

    def init(key, inputs):
        return model.init(key, preprocess(inputs, None, False))

    def apply(variables, inputs, *, train=False, key=None):
        augment_key, key = (None, None) if key is None else jax.random.split(key)
        inputs = preprocess(inputs, augment_key, train)
        return model.apply(variables, inputs, train=train, key=key)

    return model._replace(init=init, apply=apply, preprocess=preprocess, network=model)
