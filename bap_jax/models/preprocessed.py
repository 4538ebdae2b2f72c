"""Networks that take inputs as they are stored.

    logits = network(preprocess(inputs))

Inputs stay small, uint8 for instance, until a step has them on the device; normalisation and
augmentation are part of the compiled step.
"""

import jax

from bap_jax.models.base import Model
from bap_jax.types import Preprocess


def with_preprocessing(model: Model, preprocess: Preprocess) -> Model:
    """The model behind `preprocess`.

    Where there is a key, augmentation and network get keys of their own, split off it. What
    `export` returns is the network alone.

    Args:
      model: takes inputs `(batch, ...)` as `preprocess` returns them.
      preprocess: `(inputs (batch, ...), key or None, train) -> inputs (batch, ...)`.
    """

    def init(key, inputs):
        return model.init(key, preprocess(inputs, None, False))

    def apply(variables, inputs, *, train=False, key=None):
        draw, key = (None, None) if key is None else jax.random.split(key)
        return model.apply(variables, preprocess(inputs, draw, train), train=train, key=key)

    return model._replace(init=init, apply=apply, preprocess=preprocess, network=model)
