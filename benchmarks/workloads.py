"""What the benchmarks train: random data, a bare forward and backward pass, steps of methods."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing

from bap_jax import constraints, data, lagrangian, metrics, models, pruning, training
from bap_jax.models import Model
from bap_jax.pruning import filters
from bap_jax.training.settings import PruningSettings
from bap_jax.types import Array, Dataset, Params, Variables


def make_data(
    shape: Sequence[int], size: int, num_classes: int, num_groups: int, dtype: str = "float32"
) -> Dataset:
    """Random inputs, labels and groups of `size` samples, on the device.

    Args:
      shape: of one input.
      size: number of samples.
      num_classes, num_groups: how many there are.
      dtype: of inputs: `float32`, normally distributed, or `uint8`.
    """
    rng = np.random.default_rng(0)
    if dtype == "uint8":
        inputs = rng.integers(0, 256, (size, *shape), np.uint8)
    else:
        inputs = rng.normal(size=(size, *shape)).astype(np.float32)
    labels = rng.integers(0, num_classes, size)
    return data.on_device(Dataset(inputs, labels, rng.integers(0, num_groups, (size, 1))))


def random_variables(model: Model, inputs: Array) -> Variables:
    """Arrays of an untrained network from random numbers of the host: nothing has to be compiled.

    Kernels are normal with variance 2 / fan-in, scales and variances 1, all others 0.

    Args:
      model: the network.
      inputs: `(batch, ...)`; only shape and type matter.
    """
    rng = np.random.default_rng(1)

    def fill(path, leaf):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if leaf.ndim > 1:
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32), leaf.dtype)
        return jnp.full(leaf.shape, name in ("scale", "var"), leaf.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs[:1])
    return jax.tree_util.tree_map_with_path(fill, shapes)


def optimizer() -> optax.GradientTransformation:
    """SGD as in the paper."""
    return optax.sgd(0.01, momentum=0.9)


def forward_backward(model: Model) -> Callable[..., tuple[tuple[Array, dict], Params]]:
    """`(variables, batch, key=None) -> ((mean cross-entropy, new state), gradient)`."""

    def loss(params, state, batch, key):
        logits, state = model.apply(Variables(params, state), batch.inputs, train=True, key=key)
        return metrics.cross_entropy(logits, batch.labels).mean(), state

    def run(variables, batch, key=None):
        return jax.value_and_grad(loss, has_aux=True)(*variables, batch, key)

    return run


def make_pruner(
    model: Model, variables: Variables, inputs: Array, **settings: object
) -> training.Pruner:
    """Magnitude masks for the layers that the paper prunes.

    Args:
      model: the network.
      variables: its arrays.
      inputs: `(batch, ...)`; only the shape matters.
      **settings: of `PruningSettings`; by default masks change once, as the first epoch begins.
    """
    chosen = PruningSettings(**{"schedule": "one_shot", **settings})
    paths = pruning.leaf_paths(variables.params)
    kernels = [
        filters.Kernel(paths[use.leaf], use.convolution)
        for use in models.kernel_order(model, variables, inputs[:1])
    ]
    prunable = filters.prunable_leaves(chosen.prunable, variables.params, kernels)
    return training.build_pruner(chosen, prunable)


def make_trainer(
    model: Model,
    pruner: training.Pruner,
    num_groups: int = 0,
    *,
    scheme: str = "dual_primal",
    first_epoch: int = 0,
    rule: str = "ascent",
    reference: constraints.DenseReference | None = None,
) -> training.Trainer:
    """A trainer of CEAG, or of naive fine-tuning (NFT) without groups.

    Args:
      model: the network.
      pruner: of its weights.
      num_groups: each has an excess accuracy gap; 0: nothing is constrained.
      scheme: one of `lagrangian.SCHEMES`.
      first_epoch: in which the constraints act.
      rule: `ascent`, with a replay buffer of 40, or `auto`, with the adaptive estimator.
      reference: of the dense model; by default `timing.reference`.
    """
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1), overall_term="detached")
    estimator = "plain"
    if rule == "auto":
        formulation, estimator = lagrangian.auto(named_units=True), "adaptive"
    constraint = constraints.unconstrained()
    if num_groups:
        reference = timing.reference(num_groups) if reference is None else reference
        constraint = constraints.excess_accuracy_gap(reference, 0.01, estimator=estimator)
    built = lagrangian.build_scheme(scheme, optimizer(), formulation, weight_limit=20.0)
    return training.make_trainer(model, built, constraint, pruner, constrained_from=first_epoch)


def start(trainer: training.Trainer, variables: Variables):
    """The first state of a trainer, in arrays of its own, which a step may overwrite."""
    return jax.tree.map(jnp.copy, trainer.init(variables, jax.random.key(1)))
