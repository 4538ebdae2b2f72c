"""What constraints cost: the time of a CEAG step over that of a naive fine-tuning (NFT) step.

    python benchmarks/constraint_overhead.py --json=overhead.json
    python benchmarks/constraint_overhead.py --compare=auto/ascent --epochs

With `--epochs` the steps of a block are one program, as in a run (`Trainer.run_steps`), which
computes once what does not change from step to step. Else each is a call of its own.

Both steps run in one process. After a warm-up, blocks of either step on the same batches take
turns; a block ends with `block_until_ready`, and the order is swapped every round. The ratio
is the median over rounds of the ratios of two neighbouring blocks, printed with its quartiles.
Cost: about three minutes on two cores.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import timing
import workloads
from absl import app, flags

from bap_jax import data, models, training
from bap_jax.types import Dataset

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ONLY = flags.DEFINE_list("only", [], "names of cases; default: all")
_ROUNDS = flags.DEFINE_integer("rounds", None, "rounds of each case; default: set by the case")
_SCHEME = flags.DEFINE_string("scheme", "dual_primal", "scheme of the CEAG step")
_COMPARE = flags.DEFINE_enum(
    "compare", "ceag/nft", ["ceag/nft", "auto/nft", "auto/ascent"], "which step over which"
)
_EPOCHS = flags.DEFINE_bool("epochs", False, "steps in one program, as in a run")


class Case(NamedTuple):
    """A network, the shape of its input, and how many rounds and steps are timed."""

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
    size = BATCH * (NUM_BATCHES if case.network == "mlp" else 2)
    return workloads.make_data(case.shape, size, NUM_CLASSES, case.num_groups)


def make_runs(case: Case, train: Dataset) -> dict:
    """A list `[compiled step, state]` for each method."""
    model = models.build(case.network, NUM_CLASSES, **case.options)
    variables = model.init(jax.random.key(0), train.inputs[:1])
    reference = timing.reference(case.num_groups)

    def trainer(name, reference):
        return workloads.make_trainer(
            model,
            training.no_pruning(),
            0 if name == "nft" else case.num_groups,
            scheme="dual_primal" if name == "nft" else _SCHEME.value,
            rule="auto" if name == "auto" else "ascent",
            reference=reference,
        )

    def run(name):
        """The reference is an argument, as in a run: nothing about it is known in advance."""

        def program(state, reference, train, indices):
            built = trainer(name, reference)
            return (built.run_steps if _EPOCHS.value else built.step)(state, train, indices, 0)

        compiled = jax.jit(program, donate_argnums=0)
        state = workloads.start(trainer(name, reference), variables)
        return [lambda state, *inputs: compiled(state, reference, *inputs), state]

    return {name: run(name) for name in _COMPARE.value.split("/")}


def time_block(run: list, train: Dataset, batches: list) -> float:
    """Seconds per step, over one step for each batch; updates the state in `run`."""
    advance, state = run
    blocks = [jnp.stack(batches)] if _EPOCHS.value else batches
    start = time.perf_counter()
    for indices in blocks:
        state, metrics = advance(state, train, indices)
    jax.block_until_ready((state, metrics))
    run[1] = state
    return (time.perf_counter() - start) / len(batches)


def measure(case: Case) -> dict[str, float]:
    """Median milliseconds of both steps, and the ratio with its quartiles."""
    train = make_data(case)
    runs = make_runs(case, train)
    batches = list(data.epoch_indices(jax.random.key(2), train.size, BATCH))
    warm_up = batches * (2 if case.network == "mlp" else 1)
    batches = batches[: case.steps]
    for run in runs.values():
        time_block(run, train, warm_up)
        time_block(run, train, batches)
    seconds = {name: [] for name in runs}
    for i in range(_ROUNDS.value or case.rounds):
        for name in sorted(runs, reverse=i % 2 == 0):
            seconds[name].append(time_block(runs[name], train, batches))
    above, below = _COMPARE.value.split("/")
    return {
        f"{below}_ms": timing.median_ms(seconds[below]),
        f"{above}_ms": timing.median_ms(seconds[above]),
        **timing.ratios(seconds[above], seconds[below]),
    }


def main(argv):
    del argv
    rows = {}
    above, below = _COMPARE.value.split("/")
    print(f"{'case':>14} {below + ' ms':>9} {above + ' ms':>9} {'ratio':>7}  quartiles")
    for name in _ONLY.value or CASES:
        row = rows[name] = measure(CASES[name])
        print(
            f"{name:>14} {row[f'{below}_ms']:9.3f} {row[f'{above}_ms']:9.3f} {row['ratio']:7.3f}  "
            f"{row['lower_quartile']:.3f} – {row['upper_quartile']:.3f}",
            flush=True,
        )
        jax.clear_caches()
    timing.write(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)
