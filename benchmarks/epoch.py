"""An epoch as one program: against a Python loop over the same step, and with constraints.

    python benchmarks/epoch.py --json=epoch.json

    mlp, small_mlp, resnet8                    device epoch over loop, both of CEAG at 10 groups
    ceag_mlp_10, ceag_mlp_100, ceag_resnet8    device epoch of CEAG over that of naive fine-tuning

The loop is bare: the same compiled step over the same batches, donated state, nothing fetched
before the epoch's end; what `training.run_epochs` fetches after each step comes on top of it. Both
run in turn in one process on the same data, after a warm-up; a ratio is the median over rounds, the
order swapped every round. `small_mlp` is 64-32-10 at batch 32, all others have batch 128; `resnet8`
is CIFAR's at width 16. Cost: about four minutes on two cores.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
from absl import app, flags

from bap_jax import constraints, data, lagrangian, models, training
from bap_jax.training.epoch import epoch_order, make_epoch, make_step
from bap_jax.types import Dataset

_JSON = flags.DEFINE_string("json", None, "file for the ratios")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; by default all")
_ROUNDS = flags.DEFINE_integer("rounds", None, "of each case; by default what the case says")
_SMALL = flags.DEFINE_bool("small", False, "few steps, to try the program")
NUM_CLASSES = 10


class Network(NamedTuple):
    """A network, its input, and how long its epochs are."""

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
    """A function that trains one more epoch and returns what is to be waited for."""
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
    program = training.Program(
        trainer=lambda values, shared: trainer,
        keys=lambda values: (jax.random.key(2), jax.random.key(1)),
        observe=lambda state, values, shared: (),
        num_samples=train.size,
        batch_size=network.batch_size,
    )
    variables = model.init(jax.random.key(0), train.inputs[:1])
    state = jax.tree.map(jnp.copy, trainer.init(variables, jax.random.key(1)))
    return (device_epochs if epoch == "device" else looped_epochs)(program, state, train)


def device_epochs(program, state, train):
    """One program an epoch."""
    whole, now = jax.jit(make_epoch(program)), [state]

    def run():
        now[0], metrics, _ = whole(now[0], (), (), train, 0)
        return now[0], metrics

    return run


def looped_epochs(program, state, train):
    """One program a step."""
    order = jax.jit(lambda: epoch_order(program, (), 0))
    step, now = jax.jit(make_step(program), donate_argnums=0), [state]

    def run():
        found = []
        for indices in order():
            now[0], metrics = step(now[0], (), (), train, indices, 0)
            found.append(metrics)
        return found

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
    found = {}
    for name in _ONLY.value or pairs:
        network, *ways = pairs[name]
        if _SMALL.value:
            network = network._replace(steps=2, rounds=2)
        one, other = (make_epochs(network, **way) for way in ways)
        found[name] = timing.compare(one, other, _ROUNDS.value or network.rounds)
        timing.show(name, found[name])
        jax.clear_caches()
    timing.write(_JSON.value, found)


if __name__ == "__main__":
    app.run(main)
