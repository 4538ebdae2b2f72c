"""An epoch in one program over a Python loop, images a second, and the share of the device's peak.

Steps are those of CEAG with 100 groups. Images are stored on the device as uint8; each step gathers
its batch, crops, flips and normalises it. The loop calls the same step, compiled alone, and fetches
nothing. The FLOPs of a step are those that XLA counts in a bare forward and backward pass of the
dense network: model FLOPs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import workloads

from accelerator_parts import measure, peaks
from accelerator_parts.measure import Network, Program, Task
from accelerator_parts.part import Part, Recorder
from bap_jax import data, models
from bap_jax.training.single_run import SingleProgram
from bap_jax.types import Array, Dataset

NUM_GROUPS = 100
PAIRS = (("device", "loop"), ("loop", "device"))


class Case(NamedTuple):
    """A network, a precision, and the length of an epoch; `need` is in seconds."""

    name: str
    network: Network
    precision: str
    steps: int
    need: float


def cases(small: bool) -> list[Case]:
    """By value."""
    resnet56, resnet50 = measure.resnet56(small), measure.resnet50(small)
    if small:
        return [Case("resnet56", resnet56, "bfloat16", 2, 0)]
    return [
        Case("resnet56", resnet56, "bfloat16", 64, 25),
        Case("resnet50", resnet50, "bfloat16", 10, 40),
        Case("mlp", measure.mlp(small), "float32", 400, 8),
        Case("resnet56", resnet56, "float32", 64, 25),
        Case("resnet50", resnet50, "float32", 10, 40),
    ]


def build(network: Network, precision: str, augmentation: str = "crop_flip") -> models.Model:
    """The network; if it takes images, with augmentation and normalisation before it."""
    model = network.build(precision)
    if network.name == "mlp":
        return model
    return models.with_preprocessing(model, data.image_preprocess(0.5, 0.25, augmentation))


def make_data(network: Network, steps: int) -> Dataset:
    """The samples of an epoch, images as uint8."""
    dtype = "float32" if network.name == "mlp" else "uint8"
    size = steps * network.batch
    return workloads.make_data(network.shape, size, network.num_classes, NUM_GROUPS, dtype)


def make_program(model: models.Model, network: Network, variables: Any, train: Dataset):
    """Training by CEAG, as functions of the state and of the key that orders the samples."""
    pruner = workloads.make_pruner(model, variables, train.inputs)
    trainer = workloads.make_trainer(model, pruner, NUM_GROUPS)
    return SingleProgram(trainer, train.size, network.batch)


def tasks_of(program: SingleProgram, variables: Any, train: Dataset, key: Array) -> dict[str, Task]:
    """The epoch and the step; as in a run, both overwrite their states."""
    state = program.init(key, (), variables)
    indices = jax.numpy.zeros(program.batch_size, "int32")

    def epoch(state, key, train):
        state, *out = program.epoch(state, key, (), train, 0)
        return state, out

    def step(state, key, train, indices):
        return program.step(state, key, (), train, indices, 0)

    return {
        "device": Task(epoch, state, (key, train)),
        "loop": Task(step, state, (key, train, indices)),
    }


def looped(program: SingleProgram, step: Program, train: Dataset, key: Array) -> Callable[[], Any]:
    """A function that begins an epoch and calls the compiled step for each of its batches."""
    order, begin = jax.jit(program.order), jax.jit(program.begin_epoch, donate_argnums=0)

    def run():
        for i, indices in enumerate(order(key, 0)):
            if i == 0:
                step.state = begin(step.state, key, (), train, indices, 0)
            out = step(key, train, indices)
        return out

    return run


def measure_case(recorder: Recorder, case: Case) -> None:
    """Two rows: the ratio, and the throughput."""
    network, key = case.network, jax.random.key(2)
    train, model = make_data(network, case.steps), build(case.network, case.precision)
    variables = workloads.random_variables(model, train.inputs)
    program = make_program(model, network, variables, train)
    compiled = measure.compile_all(tasks_of(program, variables, train, key))
    runs = {
        "device": compiled["device"],
        "loop": looped(program, compiled["loop"], train, key),
    }
    name = f"{case.name} {case.precision}"
    seconds = measure.compare(recorder, name, runs, PAIRS, rounds=7, per=case.steps)
    flops = model_flops(model, variables, train, network.batch)
    step_seconds = min(map(_median, seconds.values())) / case.steps
    recorder.row(f"{name} throughput", **throughput(network, flops, step_seconds, case.precision))


def model_flops(model: models.Model, variables: Any, train: Dataset, size: int) -> float | None:
    """Operations of a forward and backward pass of the dense network on `size` samples."""
    batch = jax.tree.map(lambda leaf: leaf[:size], train)
    forward_backward = workloads.forward_backward(model)

    def bare(variables, batch, key):
        return variables, forward_backward(variables, batch, key)

    operands = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        (variables, batch, jax.random.key(0)),
    )
    # Compilers of GPUs count nothing before they compile; the CPU's counts the same program.
    with jax.default_device(jax.devices("cpu")[0]):
        return measure.flops(jax.jit(bare).lower(*operands))


def _median(numbers):
    return sorted(numbers)[len(numbers) // 2]


def throughput(network: Network, flops: float | None, seconds: float, precision: str) -> dict:
    """Samples a second, FLOPs and their share of the peak, for `seconds` a step."""
    numbers = {"samples_per_second": network.batch / seconds, "model_flops_of_a_step": flops}
    if flops:
        share, kind = peaks.share_of_peak(flops / seconds, precision)
        numbers |= {"tflops_per_second": flops / seconds / 1e12}
        numbers |= {"share_of_peak": share, "peak": kind}
    return numbers


def ceilings(small: bool) -> dict:
    """What large products and copies reach on this device."""
    size, elements = (64, 1000) if small else (8192, 2**28)
    return {
        "bfloat16_product_tflops": peaks.product_speed(size, "bfloat16") / 1e12,
        "float32_product_tflops": peaks.product_speed(size, "float32") / 1e12,
        "float32_product_error": peaks.product_error(),
        "copy_gigabytes_per_second": peaks.copy_speed(elements) / 1e9,
    }


def run(recorder: Recorder) -> None:
    """Ceilings first, which take seconds."""
    recorder.attempt("ceilings", ceilings, recorder.small, need=5)
    for case in cases(recorder.small):
        name = f"{case.name} {case.precision}"
        recorder.attempt(name, measure_case, recorder, case, need=case.need)


PART = Part(
    "epoch", "epoch in one program ÷ Python loop; samples a second, share of the peak", 3.0, run
)
