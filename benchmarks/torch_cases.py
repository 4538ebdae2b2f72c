"""What the comparison with PyTorch times: networks, sizes, forms of PyTorch's step, random data."""

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

METHODS = ("nft", "ceag")
# Names of `paper_step_torch.Form`s and what is set in them.
FORMS = {
    "eager": {},
    "compiled": {"compiled": True},
    "vectorised": {"vectorised": True},
    "vectorised_compiled": {"vectorised": True, "compiled": True},
    "eager_channels_last": {"channels_last": True},
    "compiled_channels_last": {"compiled": True, "channels_last": True},
    "vectorised_graphs": {"vectorised": True, "compiled": True, "graphs": True},
}
ON_CPU = ("eager", "compiled", "vectorised", "vectorised_compiled")
OURS = ("step", "epoch")
# Sizes to try a command with.
SMALL = {"batch": 16, "steps": 2, "rounds": 2, "width": 4, "size": 8}
SPARSITY, TOLERANCE, BUFFER_SIZE = 0.95, 0.01, 40
MOMENTUM = 0.9


class Case(NamedTuple):
    """What is timed.

    Attributes:
      network: `mlp` or `resnet<depth>`, see `shape_of`.
      num_groups: of CEAG.
      batch: samples of a step.
      steps: in a block, which is timed as a whole and is an epoch of ours.
      rounds: how many blocks of everything.
      precision: of the forward and backward pass.
      width: of a residual network's first stage.
      size: height and width of its images.
      primal_rate: step size of the weights.
      dual_rate: of the multipliers, so small that training on random labels stays finite.
      masked_norm: see `models.ResNet`; PyTorch's normalisation always is the plain one.
    """

    network: str
    num_groups: int
    batch: int = 128
    steps: int = 20
    rounds: int = 15
    precision: str = "float32"
    width: int = 16
    size: int = 32
    primal_rate: float = 0.01
    dual_rate: float = 1e-6
    masked_norm: bool = True

    @property
    def num_classes(self) -> int:
        """10 for the MLP, 100 for a residual network."""
        return 10 if self.network == "mlp" else 100

    @property
    def depth(self) -> int:
        """Of a residual network."""
        return int(self.network.removeprefix("resnet"))


HIDDEN, FEATURES = (256, 256), 64


def default_groups(network: str) -> tuple[int, ...]:
    """Numbers of groups of interest: any for the MLP, those of CIFAR-100 for others."""
    return (10, 100, 1_000, 10_000) if network == "mlp" else (100,)


def case_of(network: str, num_groups: int, **changes: Any) -> Case:
    """The case of a network, with few steps where one takes long on a CPU.

    Raises:
      ValueError: the network is unknown.
    """
    if not re.fullmatch(r"mlp|resnet\d+", network):
        raise ValueError(f"unknown network {network!r}; write mlp, or resnet20 for depth 20")
    slow = network != "mlp" and jax.default_backend() == "cpu"
    return Case(network, num_groups, **{**({"steps": 1, "rounds": 7} if slow else {}), **changes})


def forms_of(method: str, forms: Sequence[str]) -> list[str]:
    """The forms that make a difference: without constraints nothing is vectorised."""
    return [form for form in forms if method == "ceag" or not form.startswith("vectorised")]


def check_known(flag: str, names: Sequence[str], known: Collection[str]) -> None:
    """Raises an error for an unknown name.

    Raises:
      ValueError: the message lists the known names.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"{flag}: unknown {name!r}; known: {', '.join(known)}")


class Arrays(NamedTuple):
    """Random data on the host.

    Attributes:
      inputs: `(sample, 64)` or `(sample, height, width, 3)`.
      labels, groups: `(sample,)`.
      correct: `(group, 40)` bool, with which the buffers start.
      orders: `(step, batch)` int32, indices of the batches of a block.
    """

    inputs: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    correct: np.ndarray
    orders: np.ndarray


def make_arrays(case: Case) -> Arrays:
    """Random inputs, labels, groups and buffers."""
    rng = np.random.default_rng(0)
    count = case.batch * case.steps
    shape = (FEATURES,) if case.network == "mlp" else (case.size, case.size, 3)
    return Arrays(
        rng.normal(size=(count, *shape)).astype(np.float32),
        rng.integers(0, case.num_classes, count),
        rng.integers(0, case.num_groups, count),
        rng.random((case.num_groups, BUFFER_SIZE)) < 0.5,
        rng.permutation(count).reshape(case.steps, case.batch).astype(np.int32),
    )
