"""Programs of a run, lowered from shapes alone: no data are read and nothing is computed.

    step    one step, as a loop in Python calls it
    epoch   all steps of an epoch and the sums over the validation split
    vmap    the epoch of several members at once
    map     the epoch of several members, one after another

They can be lowered for a backend that this machine does not have: what JAX hands to the compiler of
a GPU or a TPU is the same text on every machine.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import data, models, pipeline
from bap_jax.pipeline.context import execution_for
from bap_jax.pipeline.tuner import make_compiled_run
from bap_jax.training import Execution
from bap_jax.training.loop import over_members
from bap_jax.training.settings import ConstraintSettings, DualSettings, PruningSettings, Settings
from bap_jax.training.split_sums import SplitMeans
from bap_jax.types import Dataset, Variables

PROGRAMS = ("step", "epoch", "vmap", "map")
STEPS = 10  # of an epoch; no other loop in the programs has this length


class Network(NamedTuple):
    """A network and what it is trained on.

    Attributes:
      name, options: arguments of `models.build`.
      shape: of one input.
      classes: number of them.
      batch: samples of a step.
    """

    name: str
    options: dict
    shape: tuple[int, ...]
    classes: int
    batch: int = 128


NETWORKS = {
    "tiny": Network("mlp", {"hidden": (8,)}, (4,), 3, 16),
    "mlp": Network("mlp", {"hidden": (256, 256)}, (64,), 10),
    "resnet20": Network("resnet", {"depth": 20}, (32, 32, 3), 10),
    "resnet56": Network("resnet", {"depth": 56}, (32, 32, 3), 100),
    "resnet50": Network("imagenet_resnet", {"depth": 50}, (224, 224, 3), 1000),
    "mobilenet_v2": Network("mobilenet_v2", {}, (224, 224, 3), 1000),
}


class _Unevaluated(pipeline.RunContext):
    """A dense network whose accuracy is 0.9 in every group; it is never run."""

    def evaluate(self, variables, split) -> SplitMeans:
        del variables, split
        groups = len(self.splits.group_names)
        accuracy, loss, count = (np.full(groups, value) for value in (0.9, 0.3, 100))
        return SplitMeans(accuracy, loss, 0.9, 0.3, count, 100 * groups)


def lower(
    network: Network,
    program: str,
    settings: Settings,
    num_groups: int,
    *,
    members: int = 4,
    platform: str | None = None,
) -> Any:
    """A program of a run, lowered and not compiled.

    Args:
      network: what is trained.
      program: one of `PROGRAMS`.
      settings: of the run.
      num_groups: groups of the data.
      members: of `vmap` and `map`; the other programs have one.
      platform: `cpu`, `cuda` or `tpu`; by default this machine's backend.

    Returns:
      A `jax.stages.Lowered`.
    """
    platform = platform or jax.default_backend()
    function, args = prepare(network, program, settings, num_groups, members, platform)
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,))


def prepare(
    network: Network, program: str, settings: Settings, num_groups: int, members: int, platform: str
) -> tuple[Callable, tuple]:
    """The function of a program, and its arguments, most of them shapes."""
    context = _context(network, num_groups, platform)
    compiled = make_compiled_run(context, settings)
    count = members if program in ("vmap", "map") else 1
    values = compiled.values([settings] * count)
    how = program if count > 1 else "single"
    init = over_members(compiled.program.init, how, 1)
    states = jax.eval_shape(init, values, compiled.shared, context.variables)
    number = jnp.int32(0)
    if program != "step":
        function = over_members(compiled.program.epoch, how, 2, is_in_place=True)
        return function, (states, values, compiled.shared, compiled.train, number)
    state, own = jax.eval_shape(lambda tree: jax.tree.map(lambda x: x[0], tree), (states, values))
    indices = jax.ShapeDtypeStruct((settings.batch_size,), jnp.int32)
    args = state, own, compiled.shared, compiled.train, indices, number
    return compiled.program.step, args


def settings_of(network: Network, method: str, **pruning) -> Settings:
    """The settings of a run: magnitude pruning of all kernels unless `pruning` says otherwise."""
    return Settings(
        method,
        batch_size=network.batch,
        dual=DualSettings("ascent"),  # with a replay buffer
        constraint=ConstraintSettings(el_absolute=True),
        pruning=PruningSettings(**{"prunable": "kernels", "epochs": 5} | pruning),
        finetune_epochs=5,
    )


def _context(network, num_groups, platform):
    # `auto` asks for the backend of this machine, not for the one that is lowered for.
    options = dict(network.options)
    if network.name != "mlp":
        options["convolution"] = "auto" if platform == "cpu" else "lax"
    model = models.build(network.name, network.classes, **options)
    train = _samples(network, num_groups, STEPS * network.batch - 1)
    splits = data.Splits(
        train,
        _samples(network, num_groups, 7),
        _samples(network, num_groups, 1),
        network.classes,
        tuple(map(str, range(num_groups))),
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0), train.inputs[:1])
    variables: Variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    execution = execution_for(model, variables, train, Execution(epoch="device"))
    return _Unevaluated(model, variables, splits, execution, None)


def _samples(network, num_groups, size):
    """Inputs are one sample, repeated without memory, and placed as float32."""
    inputs = np.broadcast_to(np.zeros((1, *network.shape), np.float32), (size, *network.shape))
    labels = np.arange(size) % network.classes
    return Dataset(inputs, labels, np.arange(size)[:, None] % num_groups)
