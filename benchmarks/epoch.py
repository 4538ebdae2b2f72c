"""An epoch compiled as one program: compared with a Python loop, and with constraints.

    python benchmarks/epoch.py --json=epoch.json

    mlp, small_mlp, resnet8                    device epoch over loop, both of CEAG at 10 groups
    ceag_mlp_10, ceag_mlp_100, ceag_resnet8    device epoch of CEAG over that of naive fine-tuning

The loop does as little as possible: the same compiled step over the same batches with donated
state, and nothing is fetched before the epoch ends. `training.run_epochs` also fetches metrics
after each step, which takes extra time. Both take turns in one process on the same data, after a
warm-up; the order is swapped every round, and a ratio is the median over rounds. `small_mlp` has
layers 64-32-10 and batch size 32; all others have batch size 128. `resnet8` is the CIFAR network of
width 16. Cost: about four minutes on two cores.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
from absl import app, flags

from bap_jax import constraints, data, lagrangian, models, training
from bap_jax.training.single_run import SingleProgram
from bap_jax.types import Dataset

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; default: all")
_ROUNDS = flags.DEFINE_integer("rounds", None, "rounds of each case; default: set by the case")
_SMALL = flags.DEFINE_bool("small", False, "few steps, to try the script")
NUM_CLASSES = 10


class Network(NamedTuple):
    """A network, the shape of its input, and the length of its epochs."""

    name: str
    options: dict
    shape: tuple[int, ...]
    batch_size: int
    steps: int
    rounds: int


MLP = Network("mlp", {"hidden": (256, 256)}, (64,), 128, 64, 30)
SMALL = Network("mlp", {"hidden": (32,)}, (64,), 32, 128, 30)
RESNET = Network("resnet", {"depth": 8}, (32, 32, 3), 128, 4, 9)
AGAINST_LOOP = {"mlp": MLP, "small_mlp": SMALL, "resnet8": RESNET}
AGAINST_NFT = {"ceag_mlp_10": (MLP, 10), "ceag_mlp_100": (MLP, 100), "ceag_resnet8": (RESNET, 100)}


def make_data(network: Network, num_groups: int) -> Dataset:
    """Random inputs, labels and groups."""
    rng = np.random.default_rng(0)
    size = network.batch_size * network.steps
    return data.on_device(
        Dataset(
            rng.normal(size=(size, *network.shape)).astype(np.float32),
            rng.integers(0, NUM_CLASSES, size),
            rng.integers(0, num_groups, (size, 1)),
        )
    )


def make_epochs(network: Network, num_groups: int, *, constrained: bool, epoch: str):
    """A function that trains one more epoch and returns the arrays that show when it has ended."""
    train = make_data(network, num_groups)
    model = models.build(network.name, NUM_CLASSES, **network.options)
    constraint = constraints.unconstrained()
    if constrained:
        constraint = constraints.excess_accuracy_gap(timing.reference(num_groups), 0.01)
    scheme = lagrangian.dual_primal(
        optax.sgd(0.01, momentum=0.9),
        lagrangian.gradient_ascent(optax.sgd(0.1), overall_term="detached"),
        weight_limit=20.0,
    )
    trainer = training.make_trainer(
        model, scheme, constraint, training.no_pruning(), constrained_from=0
    )
    program = SingleProgram(trainer, train.size, network.batch_size)
    variables = model.init(jax.random.key(0), train.inputs[:1])
    state = jax.tree.map(jnp.copy, trainer.init(variables, jax.random.key(1)))
    return (device_epochs if epoch == "device" else looped_epochs)(program, state, train)


def device_epochs(program, state, train):
    """Each call runs one compiled program."""
    train_epoch = jax.jit(program.epoch, donate_argnums=0)
    key, states = jax.random.key(2), [state]

    def run():
        states[0], metrics, _ = train_epoch(states[0], key, (), train, 0)
        return states[0], metrics

    return run


def looped_epochs(program, state, train):
    """Each call begins an epoch and runs a compiled step for every batch."""
    order, key = jax.jit(program.order), jax.random.key(2)
    begin, step = (jax.jit(f, donate_argnums=0) for f in (program.begin_epoch, program.step))
    states = [state]

    def run():
        all_metrics = []
        for i, indices in enumerate(order(key, 0)):
            if i == 0:
                states[0] = begin(states[0], key, (), train, indices, 0)
            states[0], metrics = step(states[0], key, (), train, indices, 0)
            all_metrics.append(metrics)
        return all_metrics

    return run


def main(argv):
    del argv
    pairs = {}
    for name, network in AGAINST_LOOP.items():
        device = {"num_groups": 10, "constrained": True, "epoch": "device"}
        pairs[name] = network, device, device | {"epoch": "loop"}
    for name, (network, num_groups) in AGAINST_NFT.items():
        ceag = {"num_groups": num_groups, "constrained": True, "epoch": "device"}
        pairs[name] = network, ceag, ceag | {"constrained": False}
    rows = {}
    for name in _ONLY.value or pairs:
        network, *options = pairs[name]
        if _SMALL.value:
            network = network._replace(steps=2, rounds=2)
        run, against = (make_epochs(network, **option) for option in options)
        rows[name] = timing.compare(run, against, _ROUNDS.value or network.rounds)
        timing.show(name, rows[name])
        jax.clear_caches()
    timing.write(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)
