"""Our training step and that of the paper in plain PyTorch: same network, masks and batches.

Both sides start from the same weights and have the same masks, full buffers and data on the device;
both hand loss, accuracy and Lagrangian of every step to the host. PyTorch fetches them at the end
of the step, our loop those of the step before, as `training.run_epochs` does, our epoch those of
all its steps at its end.

PyTorch is imported when its side is made, not with this module.
"""

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
import workloads
from accelerator_parts.measure import Task, compile_all
from torch_cases import (
    BUFFER_SIZE,
    FEATURES,
    FORMS,
    HIDDEN,
    MOMENTUM,
    SPARSITY,
    TOLERANCE,
    Arrays,
    Case,
)

from bap_jax import constraints, data, lagrangian, models, training
from bap_jax.training.single_run import SingleProgram
from bap_jax.types import Array, Dataset, Variables


class Numbers(NamedTuple):
    """What both sides hand to the host: `()` for a step, `(step,)` for an epoch."""

    loss: Array
    accuracy: Array
    lagrangian: Array


class Ours:
    """Our trainer for a case, its compiled step and epoch, each with a state of its own.

    Args:
      case: what is timed.
      method: `nft` or `ceag`.
      arrays: the data.
      variables: weights with which to start; those that PyTorch's masks remove are 0.

    Attributes:
      step: called with `(train, indices, epoch)`; returns the state and the step's numbers.
    """

    def __init__(self, case: Case, method: str, arrays: Arrays, variables: Variables):
        self.train = data.on_device(Dataset(arrays.inputs, arrays.labels, arrays.groups[:, None]))
        self.orders = [jnp.asarray(order) for order in arrays.orders]
        trainer = make_trainer(case, method, variables, self.train.inputs)
        state = trainer.init(variables, jax.random.key(1))
        if method == "ceag":
            state = state._replace(constraint=_full(state.constraint, arrays.correct))
        program = SingleProgram(trainer, self.train.size, case.batch)
        state = jax.jit(trainer.begin_epoch)(state, self.train, self.orders[0], jnp.int32(0))

        def step(state, train, indices, epoch):
            state, metrics = trainer.step_in_epoch(state, train, indices, epoch)
            return state, _numbers(metrics)

        def train_epoch(state, train, epoch):
            state, metrics, _ = program.epoch(state, jax.random.key(2), (), train, epoch)
            return state, _numbers(metrics)

        epoch = jnp.int32(1)
        tasks = {
            "step": Task(step, state, (self.train, self.orders[0], epoch)),
            "epoch": Task(train_epoch, state, (self.train, epoch)),
        }
        self.step, self._epoch = compile_all(tasks).values()

    def run_steps(self) -> list[Numbers]:
        """A step for each batch; returns their numbers on the host."""
        fetched, pending = [], None
        for indices in self.orders:
            _, numbers = self.step(self.train, indices, jnp.int32(1))
            if pending is not None:
                fetched.append(jax.device_get(pending))
            pending = numbers
        jax.block_until_ready(self.step.state)
        return [*fetched, jax.device_get(pending)]

    def run_epoch(self) -> Numbers:
        """The same in one program, in an order of its own."""
        state, numbers = self._epoch()
        jax.block_until_ready(state)
        return jax.device_get(numbers)


def _numbers(metrics):
    return Numbers(*(getattr(metrics, name) for name in Numbers._fields))


def _full(buffer, correct):
    """A buffer that holds `correct`, the oldest first."""
    return buffer._replace(
        values=jnp.asarray(correct),
        total=jnp.asarray(correct.sum(1), jnp.float32),
        seen=jnp.full_like(buffer.seen, BUFFER_SIZE),
    )


def make_model(case: Case) -> models.Model:
    """Our network, in the case's precision."""
    if case.network == "mlp":
        model = models.build("mlp", case.num_classes, hidden=HIDDEN)
    else:
        options = {"depth": case.depth, "width": case.width, "masked_norm": case.masked_norm}
        model = models.build("resnet", case.num_classes, **options)
    return models.in_precision(model, case.precision)


def make_trainer(case: Case, method: str, variables: Variables, inputs: Array) -> training.Trainer:
    """Our trainer, with the settings that restore what the paper's code computes.

    Magnitude masks are computed at the start of epoch 0; constraints act from then on.
    """
    model = make_model(case)
    constraint = constraints.unconstrained()
    if method == "ceag":
        constraint = constraints.excess_accuracy_gap(
            timing.reference(case.num_groups), TOLERANCE, overall_accuracy="group_mean"
        )
    scheme = lagrangian.dual_primal(
        optax.sgd(case.primal_rate, momentum=MOMENTUM),
        lagrangian.gradient_ascent(optax.sgd(case.dual_rate), overall_term="full"),
    )
    pruner = workloads.make_pruner(model, variables, inputs, sparsity=SPARSITY)
    return training.make_trainer(model, scheme, constraint, pruner, constrained_from=0)


class Theirs:
    """The step in PyTorch for a case.

    Args:
      case: what is timed.
      method: `nft` or `ceag`.
      arrays: the data.
      form: a key of `FORMS`.

    Attributes:
      network: PyTorch's, on its device.
      step: called with a `paper_step_torch.Batch`.

    Raises:
      ImportError: PyTorch is not installed.
    """

    def __init__(self, case: Case, method: str, arrays: Arrays, form: str):
        torch, paper = import_torch()
        self._device = torch_device()
        network, masks = make_network(case)
        self.network = network.to(self._device)
        options = paper.Form(**FORMS[form])
        rates = paper.Rates(case.primal_rate, MOMENTUM, case.dual_rate, TOLERANCE)
        arguments = [self.network, masks, rates, options, case.precision == "bfloat16"]
        if method == "nft":
            self.step = paper.Nft(*arguments)
        else:
            dense = timing.reference(case.num_groups)
            reference = paper.Reference(*(self._tensor(array) for array in dense[:4]))
            correct = self._tensor(arrays.correct.astype(np.float32))
            self.step = paper.Ceag(*arguments, reference, correct)
        inputs = self._tensor(arrays.inputs)
        if inputs.ndim == 4:
            inputs = inputs.permute(0, 3, 1, 2)
            layout = torch.channels_last if options.channels_last else torch.contiguous_format
            inputs = inputs.contiguous(memory_format=layout)
        labels, groups = self._tensor(arrays.labels), self._tensor(arrays.groups)
        self.train = paper.Batch(inputs, labels, groups)
        self.orders = [self._tensor(order).long() for order in arrays.orders]

    def _tensor(self, array):
        torch, _ = import_torch()
        return torch.from_numpy(np.array(array)).to(self._device)

    def run_steps(self) -> list[dict[str, float]]:
        """A step for each batch; returns their numbers."""
        numbers = [self.step(self.train.rows(indices)) for indices in self.orders]
        if self._device == "cuda":
            import_torch()[0].cuda.synchronize()
        return numbers


@functools.cache
def import_torch() -> tuple[Any, Any]:
    """The modules `torch` and `paper_step_torch`.

    Float32 matrix products and convolutions on a GPU may use TF32, which is JAX's default
    (`jax.lax.Precision`), and cuDNN chooses its algorithms by timing them.

    Raises:
      ImportError: PyTorch is not installed.
    """
    import paper_step_torch  # it says what is missing
    import torch

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch, paper_step_torch


def torch_device() -> str:
    """PyTorch's name of the device that JAX uses.

    Raises:
      RuntimeError: it is neither a CPU nor a GPU.
    """
    backend = jax.default_backend()
    if backend not in ("cpu", "gpu"):
        raise RuntimeError(f"PyTorch is compared on CPUs and GPUs only; JAX runs on {backend}")
    return "cuda" if backend == "gpu" else "cpu"


def make_network(case: Case) -> tuple[Any, dict]:
    """PyTorch's network with its own random weights, always the same, and its masks."""
    torch, _ = import_torch()
    import torch_networks

    torch.manual_seed(0)
    if case.network == "mlp":
        network = torch_networks.mlp((FEATURES, *HIDDEN, case.num_classes))
    else:
        network = torch_networks.ResNet(case.depth, case.num_classes, case.width)
    masks = torch_networks.magnitude_masks(network, SPARSITY)
    for name, weight in network.named_parameters():
        if name in masks:
            weight.data *= masks[name]
    return network, masks


def as_ours(case: Case, network: Any) -> Variables:
    """The weights of a network of PyTorch, as those of ours."""
    if case.network == "mlp":
        arrays = {name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}
        layers = [f"dense_{i}" for i in range(len(HIDDEN) + 1)]
        params = {
            layer: {
                "bias": jnp.asarray(arrays[f"{layer}.bias"]),
                "kernel": jnp.asarray(arrays[f"{layer}.weight"].T),
            }
            for layer in layers
        }
        return Variables(params, {})
    torch, _ = import_torch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        torch.save(network.state_dict(), path)
        return models.load_torch(str(path), make_model(case)).variables
