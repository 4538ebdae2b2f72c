"""What reading images costs: training on streamed JPEGs over training on images on the device.

    python benchmarks/input.py --json=input.json

The images, 64×64 and smooth, are written to a temporary folder. Either threads read and decode each
batch while the step before is computed, or all images are on the device as uint8. Both ways use the
same compiled step, which normalises, crops and flips. After a warm-up, blocks of steps of the two
ways take turns in one process; the order is swapped every round, and a step starts when the one
before has ended. The ratios are medians over rounds:

    streamed_mlp      seconds of a streamed block over those of a block on the device, with a small
                      perceptron: there is little to compute, so this is the cost of reading
    streamed_resnet8  the same with a ResNet-8 of width 8

A block includes the start of reading. `waiting` is the share of a streamed block during which the
host waits for samples. Cost: about three minutes on two cores.
"""

import pathlib
import tempfile
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

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "blocks of each of the two ways")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; default: all")
_SMALL = flags.DEFINE_bool("small", False, "few images, to try the script")
SHAPE, NUM_CLASSES, NUM_GROUPS = (64, 64, 3), 10, 4


class Case(NamedTuple):
    """A network and the number of steps in a block."""

    network: str
    options: dict
    steps: int


CASES = {
    "streamed_mlp": Case("mlp", {"hidden": (64,)}, 32),
    "streamed_resnet8": Case("resnet", {"depth": 8, "width": 8}, 6),
}


class Block(NamedTuple):
    """Seconds of a block, and how many of them the host waited for samples."""

    seconds: float
    waited: float


def write_images(folder: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Writes different random JPEGs that are smooth like photographs."""
    from PIL import Image

    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
        paths.append(folder / f"{i}.jpg")
        coarse.resize(SHAPE[:2], Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return paths


def make_data(paths: list[pathlib.Path]) -> dict[str, Dataset]:
    """The same samples as files and on the device."""
    rng, size = np.random.default_rng(1), len(paths)
    labels, ids = rng.integers(0, NUM_CLASSES, size), rng.integers(0, NUM_GROUPS, (size, 1))
    streamed = data.on_device(Dataset(data.Records.of_images(paths, SHAPE), labels, ids))
    return {"streamed": streamed, "device": data.on_device(data.read_all(streamed))}


def make_run(case: Case) -> list:
    """A list `[compiled training step, state]`."""
    preprocess = data.image_preprocess(0.5, 0.25, "crop_flip")
    network = models.build(case.network, NUM_CLASSES, **case.options)
    model = models.with_preprocessing(network, preprocess)
    variables = model.init(jax.random.key(0), np.zeros((1, *SHAPE), np.uint8))
    formulation = lagrangian.gradient_ascent(optax.sgd(0.1))
    scheme = lagrangian.build_scheme("dual_primal", optax.sgd(0.01, momentum=0.9), formulation)
    trainer = training.make_trainer(
        model, scheme, constraints.unconstrained(), training.no_pruning(), constrained_from=0
    )
    state = jax.tree.map(jnp.copy, trainer.init(variables, jax.random.key(1)))
    return [jax.jit(trainer.step, donate_argnums=0), state]


def run_block(run: list, samples: Dataset, order: jax.Array) -> Block:
    """Takes one step for every row of `order`; updates the state in `run`."""
    (step, state), waits = run, []
    start = time.perf_counter()
    for batch, indices in data.feed(samples, order, on_wait=waits.append):
        state, metrics = step(state, batch, indices, 0)
        jax.block_until_ready(metrics)
    jax.block_until_ready(state)
    run[1] = state
    return Block(time.perf_counter() - start, sum(waits))


def measure(name: str, samples: dict[str, Dataset], batch_size: int) -> dict[str, float]:
    """Images per second both ways, the ratio with its quartiles, and the share of waiting."""
    case, size = CASES[name], samples["device"].size
    run = make_run(case)
    orders = [
        data.epoch_indices(jax.random.key(i), size, batch_size)[: case.steps]
        for i in range(_ROUNDS.value + 1)
    ]
    for split in samples.values():
        run_block(run, split, orders[-1])
    blocks = {way: [] for way in samples}
    for i, order in enumerate(orders[:-1]):
        for way in sorted(samples, reverse=i % 2 == 0):
            blocks[way].append(run_block(run, samples[way], order))
    seconds = {way: [block.seconds for block in blocks[way]] for way in blocks}
    waits = [block.waited / block.seconds for block in blocks["streamed"]]
    images = orders[0].size
    return {
        "streamed_images_per_second": images / float(np.median(seconds["streamed"])),
        "device_images_per_second": images / float(np.median(seconds["device"])),
        "waiting": float(np.median(waits)),
        **timing.ratios(seconds["streamed"], seconds["device"]),
    }


def reading(samples: Dataset, batch_size: int) -> float:
    """Images per second that the threads read while nothing else runs."""
    start = time.perf_counter()
    for _ in data.stream(samples, data.ordered_indices(samples.size, batch_size)):
        pass
    return samples.size / (time.perf_counter() - start)


def main(argv):
    del argv
    count, batch_size = (96, 32) if _SMALL.value else (4096, 128)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = make_data(write_images(pathlib.Path(folder), count))
        only_reading = reading(samples["streamed"], batch_size)
        print(f"{'reading only':>16} {only_reading:9.0f} images/s")
        print(f"{'case':>16} {'streamed':>9} {'device':>9} {'ratio':>7}  quartiles      waiting")
        for name in _ONLY.value or CASES:
            row = rows[name] = measure(name, samples, batch_size)
            print(
                f"{name:>16} {row['streamed_images_per_second']:9.0f} "
                f"{row['device_images_per_second']:9.0f} {row['ratio']:7.3f}  "
                f"{row['lower_quartile']:.3f} – {row['upper_quartile']:.3f}  {row['waiting']:7.1%}",
                flush=True,
            )
    ratios = {name: row["ratio"] for name, row in rows.items()}
    details = {**rows, "reading_images_per_second": only_reading}
    timing.write_json(_JSON.value, {"ratios": ratios, "details": details})


if __name__ == "__main__":
    app.run(main)
