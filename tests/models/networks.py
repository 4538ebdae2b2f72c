"""How small networks of the kinds that people bring are used, and their inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

KEY = jax.random.key(3)
BATCH = 12
INPUTS = {
    "vectors": jax.random.normal(KEY, (BATCH, 6)),
    "tokens": jax.random.randint(KEY, (BATCH, 5), 0, 7),
    "images": jax.random.normal(KEY, (BATCH, 4, 4, 2)),
    "sequences": jax.random.normal(KEY, (BATCH, 5, 6)),
    "dict": {
        "tokens": jax.random.randint(KEY, (BATCH, 5), 0, 7),
        "mask": jax.random.bernoulli(KEY, 0.7, (BATCH, 5)),
    },
}


class Case(NamedTuple):
    """A network and how it is used.

    Attributes:
      make: makes the network; for Linen the module.
      inputs: name of its inputs in `INPUTS`.
      evaluate: `(network, inputs) -> logits`, as its user evaluates it; for Linen the module is
        bound. By default it is called with the inputs alone.
      random: whether its logits are random in training.
      moves: whether training moves its state, random streams left out.
      apply: as the user passes it to `prune_and_tune`.
      loss: the same.
    """

    make: Callable[[], Any]
    inputs: str = "vectors"
    evaluate: Callable[[Any, Any], Any] = lambda network, inputs: network(inputs)
    random: bool = False
    moves: bool = False
    apply: Any = None
    loss: str | None = None


BOTH = {"random": True, "moves": True}
