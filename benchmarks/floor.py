"""What a training step costs beyond the least possible: one forward and backward pass.

    python benchmarks/floor.py --json=floor.json

The floor is `jax.value_and_grad` of the dense network's mean cross-entropy on a batch that is ready
on the device, including its new running statistics. Each row adds something to the one before:

    sgd        updates of the weights, with momentum
    nft_dense  a whole step of naive fine-tuning: batches by index, metrics, check for NaN
    nft        magnitude masks that keep 5 % of the prunable weights
    ceag       an excess accuracy gap for each of 100 groups

Everything runs in one process on the same batches. After a warm-up, blocks of steps are timed; a
block ends with `block_until_ready`. Each block runs next to a block of the floor, and the order is
swapped every round. A ratio is the median over rounds of the ratios of two such blocks. Cost: about
two minutes on two cores.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import timing
import workloads
from absl import app, flags

from bap_jax import data, models, training
from bap_jax.models import Model
from bap_jax.types import Dataset, Variables

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ONLY = flags.DEFINE_list("only", [], "names of cases; default: all")
_ROUNDS = flags.DEFINE_integer("rounds", None, "rounds of each case; default: set by the case")
_SMALL = flags.DEFINE_bool("small", False, "a tiny network and few steps, to try the script")
_CONVOLUTION = flags.DEFINE_string("convolution", "auto", "config.model.convolution of the network")


class Case(NamedTuple):
    """A residual network, its images, and how many rounds and steps are timed."""

    depth: int
    width: int
    size: int
    num_classes: int
    num_groups: int
    batch: int
    rounds: int
    steps: int


CASES = {"resnet8": Case(8, 16, 32, 100, 100, 128, 24, 2)}
ROWS = ("sgd", "nft_dense", "nft", "ceag")
FIRST_EPOCH = 1  # masks are computed when epoch 0 begins


def make_data(case: Case) -> Dataset:
    """Random images, labels and groups of four batches."""
    shape = (case.size, case.size, 3)
    return workloads.make_data(shape, 4 * case.batch, case.num_classes, case.num_groups)


class Run:
    """A compiled step, its state, and batches on the device."""

    def __init__(self, step: Callable[[Any, Any], Any], carry: Any, batches: list):
        self.step, self.batches = jax.jit(step, donate_argnums=0), batches
        self.carry = jax.tree.map(jnp.copy, carry)

    def seconds(self, steps: int) -> float:
        """Seconds per step, over `steps` steps; updates the state."""
        start = time.perf_counter()
        for i in range(steps):
            self.carry, out = self.step(self.carry, self.batches[i % len(self.batches)])
        jax.block_until_ready((self.carry, out))
        return (time.perf_counter() - start) / steps


def plain_run(model: Model, variables: Variables, batches: list, update: bool) -> Run:
    """Forward and backward pass, and an SGD update if `update`."""
    forward_backward, optimizer = workloads.forward_backward(model), workloads.optimizer()

    def step(carry, batch):
        variables, moments = carry
        (value, state), grads = forward_backward(variables, batch)
        if not update:
            return carry, (value, state, grads)
        updates, moments = optimizer.update(grads, moments)
        params = optax.apply_updates(variables.params, updates)
        return (Variables(params, state), moments), value

    return Run(step, (variables, optimizer.init(variables.params) if update else ()), batches)


def method_run(model, variables, train, indices, num_groups, pruner) -> Run:
    """Steps of a trainer, after a first step that computes the masks."""
    trainer = workloads.make_trainer(model, pruner, num_groups, first_epoch=FIRST_EPOCH)
    state = trainer.init(variables, jax.random.key(1))
    state, _ = jax.jit(trainer.step)(state, train, indices[0], 0)

    def step(state, batch):
        return trainer.step_in_epoch(state, *batch)

    return Run(step, state, [(train, rows, jnp.int32(FIRST_EPOCH)) for rows in indices])


def make_runs(case: Case) -> dict[str, Run]:
    """The floor and the rows above it, by name."""
    train = make_data(case)
    model = models.build(
        "resnet",
        case.num_classes,
        depth=case.depth,
        width=case.width,
        convolution=_CONVOLUTION.value,
    )
    variables = jax.jit(model.init)(jax.random.key(0), train.inputs[:1])
    indices = list(data.epoch_indices(jax.random.key(2), train.size, case.batch))
    batches = [jax.tree.map(lambda leaf: leaf[rows], train) for rows in indices]  # noqa: B023
    pruner = workloads.make_pruner(model, variables, train.inputs)
    methods = {
        "nft_dense": (0, training.no_pruning()),
        "nft": (0, pruner),
        "ceag": (case.num_groups, pruner),
    }
    return {
        "floor": plain_run(model, variables, batches, update=False),
        "sgd": plain_run(model, variables, batches, update=True),
        **{
            name: method_run(model, variables, train, indices, *method)
            for name, method in methods.items()
        },
    }


def measure(case: Case) -> dict[str, dict[str, float]]:
    """Median milliseconds of each row and of the floor next to it, and their ratio."""
    runs = make_runs(case)
    for run in runs.values():
        run.seconds(2 * case.steps)
    seconds = {name: ([], []) for name in ROWS}
    for i in range(_ROUNDS.value or case.rounds):
        for name in ROWS:
            pair = ("floor", name) if i % 2 == 0 else (name, "floor")
            measured = {run: runs[run].seconds(case.steps) for run in pair}
            seconds[name][0].append(measured[name])
            seconds[name][1].append(measured["floor"])
    floors = [second for _, below in seconds.values() for second in below]
    rows = {"floor": {"ms": timing.median_ms(floors)}}
    for name, (above, below) in seconds.items():
        times = {"ms": timing.median_ms(above), "against_ms": timing.median_ms(below)}
        rows[name] = {**times, **timing.ratios(above, below)}
    return rows


def main(argv):
    del argv
    cases = {}
    for name in _ONLY.value or CASES:
        case = CASES[name]
        if _SMALL.value:
            case = case._replace(width=2, size=8, batch=8, rounds=1, steps=1)
        rows = cases[name] = measure(case)
        print(f"{name}: floor {rows['floor']['ms']:.3f} ms\n{'':>11} {'ms':>9} {'ratio':>7}")
        for row in ROWS:
            ms, _, *ratios = rows[row].values()
            print("{:>11} {:9.3f} {:7.3f}  {:.3f} – {:.3f}".format(row, ms, *ratios), flush=True)
    ratios = {name: rows["ceag"]["ratio"] for name, rows in cases.items()}
    timing.write_json(_JSON.value, {"ratios": ratios, "details": cases})


if __name__ == "__main__":
    app.run(main)
