"""A network, as the rest of the package sees it: two pure functions."""

from typing import Any, NamedTuple, Protocol

from bap_jax.types import Array, ModelState, Preprocess, PyTree, Variables


class ModelInit(Protocol):
    """Signature of `Model.init`."""

    def __call__(self, key: Array, inputs: PyTree, /) -> Variables:
        """Untrained arrays of the network.

        Args:
          key: random key.
          inputs: `(batch, ...)`, an array or a pytree of arrays; only shapes and types matter.
        """
        ...


class ModelApply(Protocol):
    """Signature of `Model.apply`."""

    def __call__(
        self, variables: Variables, inputs: PyTree, /, *, train: bool, key: Array | None
    ) -> tuple[Array, ModelState]:
        """Runs the network; pure.

        Args:
          variables: its arrays.
          inputs: `(batch, ...)`, an array or a pytree of arrays.
          train: a Python bool; switches dropout, augmentation and batch statistics on.
          key: random key for dropout and the like; may be None when `train` is False.

        Returns:
          Logits `(batch, class)`, and the new `Variables.state`.
        """
        ...


class ModelExport(Protocol):
    """Signature of `Model.export`."""

    def __call__(self, variables: Variables, /) -> Any:
        """The network in the form in which its user gave it: a module, or a dict of arrays."""
        ...


class ModelSwitched(Protocol):
    """Signature of `Model.switched`."""

    def __call__(self, variables: Variables, inputs: Array, /) -> dict[str, str]:
        """For `dropout` and `batch_norm`, the name of one such layer in the network, if any."""
        ...


class Model(NamedTuple):
    """A network as pure functions.

    Attributes:
      init: `(key, inputs) -> Variables`.
      apply: `(Variables, inputs (batch, ...), train=, key=) -> (logits (batch, class), state)`.
      export: `Variables -> ` the network in the form in which its user gave it.
      module: the Linen or NNX module that `apply` was made from, if there is one. The arrays of an
        NNX module are not those of the network.
      preprocess: what `apply` does to stored inputs before the network sees them.
      network: the model without `preprocess`; None if there is no `preprocess`.
      precision: in which `apply` computes, see `in_precision`.
      call: how the user says that the module is called, see `from_linen` and `from_nnx`.
      switched: which layers ought to act differently in training; None if that is not to be
        checked, see `check_modes`.
    """

    init: ModelInit
    apply: ModelApply
    export: ModelExport = lambda variables: variables
    module: Any = None
    preprocess: Preprocess | None = None
    network: "Model | None" = None
    precision: str = "float32"
    call: Any = None
    switched: ModelSwitched | None = None
