"""A training step of the paper in plain PyTorch, with the bookkeeping that its code does.

It is a restatement for timing, written from a description of the released code; nothing is copied.

    batch by index ─► forward ─► loss of each sample ─► accuracy ─► [constraints] ─► backward
        ─► SGD with momentum ─► removed weights set to 0 ─► numbers fetched with `.item()`

Naive fine-tuning (NFT) leaves out the constraints. For constrained excess accuracy gaps (CEAG) a
loop over groups in Python selects the samples of each group, pushes their correctness into the
group's buffer, asks every buffer for its mean and stacks violations and proxies; the multipliers,
one `nn.Parameter`, ascend before the weights descend. `Vectorised` does the same without a loop.

PyTorch is not a dependency of the project; this module needs it.
"""

from typing import NamedTuple

try:
    import torch
except ImportError as error:
    raise ImportError(
        "the comparison with PyTorch needs the package torch, which bap_jax does not install; "
        "write: pip install torch"
    ) from error

from torch import Tensor, nn
from torch.nn import functional as F

BUFFER_SIZE = 40


class Batch(NamedTuple):
    """Samples: inputs `(batch, ...)`, labels `(batch,)` and group ids `(batch,)`, int64."""

    inputs: Tensor
    labels: Tensor
    groups: Tensor

    def rows(self, indices: Tensor) -> "Batch":
        """The samples with the given indices; images keep their layout in memory."""
        inputs = self.inputs[indices]
        if self.inputs.ndim == 4 and self.inputs.is_contiguous(memory_format=torch.channels_last):
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        return Batch(inputs, self.labels[indices], self.groups[indices])


class Reference(NamedTuple):
    """The dense network: accuracies and losses, `(group,)` and overall `()`."""

    group_accuracy: Tensor
    accuracy: Tensor
    group_loss: Tensor
    loss: Tensor


class Form(NamedTuple):
    """How the step is written and run.

    Attributes:
      vectorised: constraints without a loop over groups.
      compiled: network, and vectorised constraints, through `torch.compile`.
      graphs: compile with `mode="reduce-overhead"`, which records CUDA graphs.
      channels_last: images and weights in memory as `(batch, height, width, channel)`.
    """

    vectorised: bool = False
    compiled: bool = False
    graphs: bool = False
    channels_last: bool = False

    def compile(self, function):
        """The function, compiled if the form says so."""
        if not self.compiled:
            return function
        return torch.compile(function, mode="reduce-overhead" if self.graphs else None)


class Rates(NamedTuple):
    """Step sizes of weights and multipliers, and the tolerance ε."""

    primal: float
    momentum: float
    dual: float
    tolerance: float


class Nft:
    """Steps of naive fine-tuning.

    Args:
      network: on its device; its removed weights are set to 0.
      masks: of `torch_networks.magnitude_masks`.
      rates: step sizes.
      form: how it is run.
      bfloat16: whether the forward pass runs under `torch.autocast`.
    """

    def __init__(
        self,
        network: nn.Module,
        masks: dict[str, Tensor],
        rates: Rates,
        form: Form,
        bfloat16: bool = False,
    ):
        if form.channels_last:
            network = network.to(memory_format=torch.channels_last)
        self.network, self.form = network.train(), form
        self._apply = form.compile(network)
        weights = dict(network.named_parameters())
        # In the layout of the weights, for which `_foreach_mul_` has one kernel.
        self._masks = [torch.empty_like(weights[name]).copy_(masks[name]) for name in masks]
        self._masked = [weights[name] for name in masks]
        self._remove()
        self._optimizer = torch.optim.SGD(weights.values(), rates.primal, rates.momentum)
        self._bfloat16 = bfloat16

    def __call__(self, batch: Batch) -> dict[str, float]:
        """One step; returns loss and accuracy of the batch."""
        losses, correct = self.forward(batch)
        loss, accuracy = losses.mean(), correct.mean()
        self._descend(loss)
        return {"loss": loss.item(), "accuracy": accuracy.item()}

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss and correctness of each sample, `(batch,)` float32."""
        if self.form.graphs:  # results of the step before may be overwritten from here on
            torch.compiler.cudagraph_mark_step_begin()
        kind = batch.inputs.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self._bfloat16):
            logits = self._apply(batch.inputs)
        logits = logits.float()
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        return losses, (logits.detach().argmax(1) == batch.labels).float()

    def _descend(self, objective):
        self._optimizer.zero_grad()
        objective.backward()
        self._optimizer.step()
        self._remove()

    @torch.no_grad()
    def _remove(self):
        torch._foreach_mul_(self._masked, self._masks)


class Ceag(Nft):
    """Steps under ψ_g ≤ ε for every group g: multipliers first, then weights.

    Args:
      network, masks, rates, form, bfloat16: see `Nft`.
      reference: the dense network.
      correct: `(group, 40)` 0 or 1, with which the buffers start, the oldest first.

    Attributes:
      multipliers: λ `(group,)`.
    """

    def __init__(self, network, masks, rates, form, bfloat16, reference, correct):
        super().__init__(network, masks, rates, form, bfloat16)
        self._observe = GroupLoop(reference, correct).observe
        if form.vectorised:
            self._observe = form.compile(Vectorised(reference, correct).observe)
        self._tolerance = rates.tolerance
        self.multipliers = nn.Parameter(torch.zeros_like(reference.group_accuracy))
        self._dual_optimizer = torch.optim.SGD([self.multipliers], rates.dual, maximize=True)

    def __call__(self, batch: Batch) -> dict[str, float]:
        """One step; returns loss and accuracy of the batch and the Lagrangian."""
        losses, correct = self.forward(batch)
        loss, accuracy = losses.mean(), correct.mean()
        excess, is_full, proxies, present = self._observe(losses, correct, batch.groups)
        self._ascend(excess - self._tolerance, is_full)
        lagrangian = loss + (self.multipliers.detach()[present] * proxies).sum()
        self._descend(lagrangian)
        return {
            "loss": loss.item(),
            "accuracy": accuracy.item(),
            "lagrangian": lagrangian.item(),
        }

    @torch.no_grad()
    def _ascend(self, violation, is_full):
        self.multipliers.grad = torch.where(is_full, violation, 0)
        self._dual_optimizer.step()
        self.multipliers.clamp_(min=0)


class GroupBuffer:
    """The last 40 values of one group."""

    def __init__(self, values: Tensor):
        self.values = values

    def push(self, values: Tensor) -> None:
        """Adds values, the newest last."""
        self.values = torch.cat([self.values, values])[-BUFFER_SIZE:]

    def is_full(self) -> bool:
        """Whether there are 40 values."""
        return len(self.values) == BUFFER_SIZE

    def mean(self) -> Tensor:
        """`()`."""
        return self.values.mean()


class GroupLoop:
    """Excess gaps and proxies by a loop over groups and a dict of buffers."""

    def __init__(self, reference: Reference, correct: Tensor):
        self.reference = reference
        self.buffers = {group: GroupBuffer(values) for group, values in enumerate(correct)}

    def observe(self, losses: Tensor, correct: Tensor, groups: Tensor):
        """Returns ψ̂ `(group,)`, which buffers are full `(group,)`, ψ̃ `(present,)`, their groups."""
        dense, present, proxies = self.reference, groups.unique(), []
        overall = losses.mean() - dense.loss
        for group in present.tolist():
            own = groups == group
            self.buffers[group].push(correct[own])
            proxies.append(losses[own].mean() - dense.group_loss[group] - overall)
        full = [group for group, buffer in self.buffers.items() if buffer.is_full()]
        is_full = torch.zeros_like(dense.group_accuracy, dtype=torch.bool)
        excess = torch.zeros_like(dense.group_accuracy)
        if full:
            rows = torch.tensor(full, device=groups.device)
            means = torch.stack([self.buffers[group].mean() for group in full])
            is_full[rows] = True
            excess[rows] = dense.group_accuracy[rows] - means - (dense.accuracy - means.mean())
        return excess, is_full, torch.stack(proxies), present


class Vectorised:
    """The same by sums over groups and one array of buffers."""

    def __init__(self, reference: Reference, correct: Tensor):
        self.reference = reference
        num_groups, size = correct.shape
        # The last row takes what a batch itself overwrites.
        self.values = torch.zeros((num_groups + 1, BUFFER_SIZE), device=correct.device)
        self.values[:-1, :size] = correct
        self.seen = torch.full((num_groups,), size, device=correct.device)

    def observe(self, losses: Tensor, correct: Tensor, groups: Tensor):
        """As `GroupLoop`, with proxies `(group,)`, 0 for groups that the batch does not hold."""
        dense = self.reference
        counts = torch.zeros_like(dense.loss.expand(len(self.seen))).index_add(
            0, groups, torch.ones_like(losses)
        )
        sums = torch.zeros_like(counts).index_add(0, groups, losses)
        overall = losses.mean() - dense.loss
        proxies = sums / counts.clamp(min=1) - dense.group_loss - overall
        self._push(correct, groups, counts.long())
        is_full = self.seen >= BUFFER_SIZE
        means = torch.where(is_full, self.values[:-1].mean(1), 0)
        overall_mean = means.sum() / is_full.sum().clamp(min=1)
        excess = dense.group_accuracy - means - (dense.accuracy - overall_mean)
        return excess, is_full, torch.where(counts > 0, proxies, 0), slice(None)

    @torch.no_grad()
    def _push(self, correct, groups, counts):
        groups, order = torch.sort(groups, stable=True)
        rank = torch.arange(len(groups), device=groups.device) - torch.searchsorted(groups, groups)
        stays = rank >= counts[groups] - BUFFER_SIZE
        row = torch.where(stays, groups, len(self.seen))
        self.values[row, (self.seen[groups] + rank) % BUFFER_SIZE] = correct[order]
        self.seen += counts
