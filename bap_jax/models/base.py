"""A network, to the rest of the house: two pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

from bap_jax.types import Array, Preprocess, Variables


class Model(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: `(key, inputs) -> Variables`.
      apply: `(Variables, inputs (batch, ...), train, key) -> (logits (batch, class), state)`.
          `train` is a Python bool; `key` seeds dropout and the like and may be None when `train` is
          False; `state` is the new `Variables.state`.
      export: `Variables -> ` the network in the form that its user knows (a module, a dict).
      module: the Linen module that `apply` calls, where there is one.
      preprocess: what `apply` does to stored inputs before the network sees them.
      network: the model without it; None where there is no `preprocess`.
      precision: in which `apply` computes, see `in_precision`.
    """

    init: Callable[[Array, Array], Variables]
    apply: Callable[..., tuple[Array, Any]]
    export: Callable[[Variables], Any] = lambda variables: variables
    module: Any = None
    preprocess: Preprocess | None = None
    network: "Model | None" = None
    precision: str = "float32"
