"""What constraints cost: the step of CEAG over the step of naive fine-tuning.

    python benchmarks/constraint_overhead.py --json=overhead.json

Both steps run in turn in one process, blocks of steps on the same batches, after a warm-up; a block
ends with `block_until_ready`. The ratio is the median over rounds of the ratio of two neighbouring
blocks, their order swapped every round; the quartiles are printed beside it. Cost: about three
minutes on two cores.
"""

import json
import platform
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
from absl import app, flags

from bap_jax import constraints, data, lagrangian, models, training
from bap_jax.types import Dataset

_JSON = flags.DEFINE_string("json", None, "file for the ratios")
_ONLY = flags.DEFINE_list("only", [], "names of cases; by default all")
_ROUNDS = flags.DEFINE_integer("rounds", None, "of each case; by default what the case says")
_SCHEME = flags.DEFINE_string("scheme", "dual_primal", "of CEAG's steps")


class Case(NamedTuple):
    """A network, its input and how often it is timed."""

    network: str
    options: dict
    shape: tuple[int, ...]
    num_groups: int
    rounds: int
    steps: int


def _mlp(num_groups):
    return Case("mlp", {"hidden": (256, 256)}, (64,), num_groups, 150, 20)


CASES = {f"mlp_{size}": _mlp(size) for size in (10, 100, 1_000, 10_000, 100_000)}
CASES["resnet20_100"] = Case("resnet", {"depth": 20}, (32, 32, 3), 100, 24, 1)
BATCH, NUM_CLASSES, NUM_BATCHES = 128, 10, 32


def make_data(case: Case) -> Dataset:
    """Random inputs, labels and groups."""
    rng = np.random.default_rng(0)
    size = BATCH * (NUM_BATCHES if case.network == "mlp" else 2)
    return data.on_device(
        Dataset(
            rng.normal(size=(size, *case.shape)).astype(np.float32),
            rng.integers(0, NUM_CLASSES, size),
            rng.integers(0, case.num_groups, (size, 1)),
        )
    )


def make_runs(case: Case, train: Dataset) -> dict:
    """For each method a compiled step and its state."""
    model = models.build(case.network, NUM_CLASSES, **case.options)
    variables = model.init(jax.random.key(0), train.inputs[:1])
    ceag = constraints.excess_accuracy_gap(timing.reference(case.num_groups), 0.01)
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1), overall_term="detached")
    runs = {}
    for name, constraint in (("nft", constraints.unconstrained()), ("ceag", ceag)):
        scheme = lagrangian.build_scheme(
            "dual_primal" if name == "nft" else _SCHEME.value,
            optax.sgd(0.01, momentum=0.9),
            formulation,
            weight_limit=20.0,
        )
        trainer = training.make_trainer(
            model, scheme, constraint, training.no_pruning(), constrained_from=0
        )
        state = jax.tree.map(jnp.copy, trainer.init(variables, jax.random.key(1)))
        runs[name] = [jax.jit(trainer.step, donate_argnums=0), state]
    return runs


def time_block(run: list, train: Dataset, batches: list) -> float:
    """Seconds of one step over every batch; the run goes on from where it ends."""
    step, state = run
    start = time.perf_counter()
    for indices in batches:
        state, metrics = step(state, train, indices, 0)
    jax.block_until_ready((state, metrics))
    run[1] = state
    return (time.perf_counter() - start) / len(batches)


def measure(case: Case) -> dict[str, float]:
    """Median milliseconds of both steps, and their ratio with its quartiles."""
    train = make_data(case)
    runs = make_runs(case, train)
    batches = list(data.epoch_indices(jax.random.key(2), train.size, BATCH))
    warm_up = batches * (2 if case.network == "mlp" else 1)
    batches = batches[: case.steps]
    for run in runs.values():
        time_block(run, train, warm_up)
    seconds = {name: [] for name in runs}
    for i in range(_ROUNDS.value or case.rounds):
        for name in sorted(runs, reverse=i % 2 == 0):
            seconds[name].append(time_block(runs[name], train, batches))
    ratios = np.array(seconds["ceag"]) / np.array(seconds["nft"])
    return {
        "nft_ms": 1000 * float(np.median(seconds["nft"])),
        "ceag_ms": 1000 * float(np.median(seconds["ceag"])),
        "ratio": float(np.median(ratios)),
        "lower_quartile": float(np.quantile(ratios, 0.25)),
        "upper_quartile": float(np.quantile(ratios, 0.75)),
    }


def main(argv):
    del argv
    found = {}
    print(f"{'case':>14} {'nft ms':>9} {'ceag ms':>9} {'ratio':>7}  quartiles")
    for name in _ONLY.value or CASES:
        row = found[name] = measure(CASES[name])
        print(
            f"{name:>14} {row['nft_ms']:9.3f} {row['ceag_ms']:9.3f} {row['ratio']:7.3f}  "
            f"{row['lower_quartile']:.3f} – {row['upper_quartile']:.3f}",
            flush=True,
        )
        jax.clear_caches()
    if _JSON.value:
        device = f"{jax.devices()[0].device_kind}, {platform.machine()}"
        ratios = {name: row["ratio"] for name, row in found.items()}
        with open(_JSON.value, "w", encoding="utf-8") as file:
            json.dump({"ratios": ratios, "details": found, "device": device}, file, indent=1)


if __name__ == "__main__":
    app.run(main)
