"""What `auto` should choose on this backend.

    convolution   gradients of `models.convolution` (`loop`) over those of JAX (`lax`), ResNet-56,
                  forward and backward, one step and inside a compiled loop
    vmap          a layer of 8 networks with kernels of their own, one after another (`map`) over at
                  once
    layout        channels first over channels last, first layers of both networks
    donated       a step that keeps the state it starts from over one that overwrites it, and its
                  memory
    precision     float32 products at `highest` precision over the default's
    masked        a product with a 2:4 masked matrix over a dense one. XLA has no kernel for 2:4, so
                  the zeros save nothing; the row shows only whether the masking costs anything

The last rows are answers: what to choose, from which ratio, and by which threshold.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import workloads
from jax import lax

from accelerator_parts import measure, steps
from accelerator_parts.measure import Task
from accelerator_parts.part import Part, Recorder

CLEARLY_FASTER = 0.95  # a choice other than today's needs a ratio of at most this
LAYERS = ((32, 16), (16, 32), (8, 64))  # pixels and channels of ResNet-56's 3×3 convolutions
# Pixels, size of the kernel, channels before and after, stride.
STEMS = ((32, 3, (3, 16), 1), (224, 7, (3, 64), 2), (56, 3, (64, 64), 1))
CHANNELS_LAST, CHANNELS_FIRST = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")


def compare(recorder: Recorder, case: str, tasks: dict[str, Task], steps: int = 1) -> None:
    """A row: the first of two tasks, of `steps` each, over the second; blocks of 50 ms or more."""
    above, below = tasks
    programs = measure.compile_all(tasks)
    least = 0 if recorder.small else measure.BLOCK_SECONDS
    count = measure.steps_of_a_block(programs[below], least)
    runs = {name: measure.repeated(program, count) for name, program in programs.items()}
    needs = {f"{name}_bytes": program.bytes() for name, program in programs.items()}
    measure.compare(recorder, case, runs, [(above, below)], rounds=9, per=count * steps, **needs)


def convolution(recorder: Recorder, precision: str, looped: bool) -> None:
    """Both gradients of convolutions, in a bare pass of ResNet-56."""
    network = measure.resnet56(recorder.small)
    case = steps.Case("", network, 1, precision, 2 if recorder.small else 10, 0, None)
    size = network.batch * network.batches
    train = workloads.make_data(network.shape, size, network.num_classes, 1)
    tasks = {}
    for name in ("loop", "lax"):
        model = network.build(precision, convolution=name)
        variables = workloads.random_variables(model, train.inputs)
        tasks[name] = steps.bare_task(case, model, variables, train, looped)
    where = "in a loop" if looped else "one step"
    compare(recorder, f"convolution {where} {precision}", tasks, case.steps if looped else 1)


def _layer(numbers: tuple[str, str, str], stride: int) -> Callable:
    """Sum of a convolution's squares, whose gradients need the convolution itself."""

    def loss(kernel, image):
        out = lax.conv_general_dilated(
            image, kernel, (stride, stride), "SAME", dimension_numbers=numbers
        )
        return jnp.square(out.astype(jnp.float32)).sum()

    return jax.value_and_grad(loss, argnums=(0, 1))


def vmap(recorder: Recorder, pixels: int, channels: int, precision: str) -> None:
    """A convolution and its gradients for 8 members: one after another over at once."""
    members, batch = (2, 2) if recorder.small else (8, 128)
    images = jnp.ones((members, batch, pixels, pixels, channels), precision)
    kernels = jnp.ones((members, 3, 3, channels, channels), precision)
    layer = _layer(CHANNELS_LAST, 1)

    def at_once(state, images, kernels):
        return state, jax.vmap(layer)(kernels, images)

    def in_turn(state, images, kernels):
        return state, lax.map(lambda both: layer(*both), (kernels, images))

    operands = (images, kernels)
    tasks = {"map": Task(in_turn, (), operands), "vmap": Task(at_once, (), operands)}
    compare(recorder, f"vmap {pixels}x{pixels}x{channels} {precision}", tasks)


def layout(recorder: Recorder, pixels: int, size: int, widths: tuple, stride: int) -> None:
    """The first convolution of a network and its gradients, in bfloat16."""
    batch, (first, last) = 2 if recorder.small else 128, widths
    tasks = {}
    for name, numbers, image, kernel in (
        ("nchw", CHANNELS_FIRST, (batch, first, pixels, pixels), (last, first, size, size)),
        ("nhwc", CHANNELS_LAST, (batch, pixels, pixels, first), (size, size, first, last)),
    ):
        layer = _layer(numbers, stride)
        operands = (jnp.ones(kernel, jnp.bfloat16), jnp.ones(image, jnp.bfloat16))
        tasks[name] = Task(lambda state, *both, layer=layer: (state, layer(*both)), (), operands)
    compare(recorder, f"layout {pixels}x{pixels}x{first} to {last}", tasks)


def donated(recorder: Recorder) -> None:
    """Steps of naive fine-tuning."""
    network = measure.resnet56(recorder.small)
    model = network.build("float32")
    train = workloads.make_data(network.shape, 2 * network.batch, network.num_classes, 1)
    variables = workloads.random_variables(model, train.inputs)
    pruner = workloads.make_pruner(model, variables, train.inputs)
    trainer = workloads.make_trainer(model, pruner)
    case = steps.Case("", network, 1, "float32", 1, 0, None)
    begun = steps.begin(trainer, variables, train, network.batch)
    task = steps.step_task(case, trainer, begun, train, looped=False)
    compare(recorder, "donated", {"kept": task._replace(donate=False), "donated": task})


def precision(recorder: Recorder) -> None:
    """A bare pass of ResNet-56 with float32 products, at the highest precision and by default."""
    network = measure.resnet56(recorder.small)
    case = steps.Case("", network, 1, "float32", 1, 0, None)
    train = workloads.make_data(
        network.shape, network.batch * network.batches, network.num_classes, 1
    )
    model = network.build("float32")
    variables = workloads.random_variables(model, train.inputs)
    task = steps.bare_task(case, model, variables, train, looped=False)

    def highest(*operands):
        with jax.default_matmul_precision("highest"):
            return task.function(*operands)

    tasks = {"highest": task._replace(function=highest), "default": task}
    compare(recorder, "precision", tasks)


def masked(recorder: Recorder) -> None:
    """Products in bfloat16 with a matrix that is masked in the program, and with a dense one."""
    size = 64 if recorder.small else 4096
    left, right = jnp.ones((2, size, size), jnp.bfloat16)
    mask = jnp.broadcast_to(jnp.array([1, 1, 0, 0] * (size // 4), jnp.uint8)[:, None], (size, size))
    tasks = {
        "masked": Task(lambda s, a, b, m: (s, a @ (b * m)), (), (left, right, mask)),
        "dense": Task(lambda s, a, b: (s, a @ b), (), (left, right)),
    }
    compare(recorder, "masked 2:4", tasks)


def answer(recorder: Recorder, question: str, today: str, other: str, rows: Sequence[Any]) -> None:
    """A row: `other` if one of the ratios of `other` over `today`, the first that exists, is low.

    Args:
      recorder: has the rows.
      question: the choice.
      today: what `auto` chooses on accelerators now.
      other: what else there is.
      rows: `(part, case)` of ratios, the most telling first.
    """
    found = [(case, row) for part, case in rows if (row := recorder.earlier(part, case))]
    if not found:
        recorder.skipped(f"answer: {question}", "none of its ratios was measured")
        return
    case, row = found[0]
    choice = other if row["ratio"] <= CLEARLY_FASTER else today
    recorder.row(
        f"answer: {question}",
        choose=choice,
        today=today,
        by=case,
        ratio=row["ratio"],
        threshold=CLEARLY_FASTER,
    )


def answers(recorder: Recorder) -> None:
    """One row for each question."""
    loops = [
        ("choices", f"convolution {where} {kind} loop/lax")
        for where in ("in a loop", "one step")
        for kind in ("bfloat16", "float32")
    ]
    maps = [("sweep", f"resnet56 x8 {kind} map/vmap") for kind in ("bfloat16", "float32")]
    maps += [("sweep", "resnet56 x2 float32 map/vmap")]  # of a dry run
    maps += [
        ("choices", f"vmap {pixels}x{pixels}x{channels} {kind} map/vmap")
        for kind in ("bfloat16", "float32")
        for pixels, channels in LAYERS
    ]
    hosts = [("epoch", f"resnet56 {kind} loop/device") for kind in ("bfloat16", "float32")]
    answer(recorder, "convolution", "lax", "loop", loops)
    answer(recorder, "members with convolutions", "vmap", "map", maps)
    answer(recorder, "epoch", "device", "loop", hosts)
    answer(recorder, "state", "donated", "kept", [("choices", "donated kept/donated")])


def run(recorder: Recorder) -> None:
    """Questions by value, then their answers."""
    kinds = ("float32",) if recorder.small else ("bfloat16", "float32")
    for kind in kinds:
        for looped in (True,) if recorder.small else (True, False):
            name = f"convolution {'in a loop' if looped else 'one step'} {kind}"
            recorder.attempt(name, convolution, recorder, kind, looped, need=25)
    for kind in kinds:
        for pixels, channels in LAYERS[-1:] if recorder.small else LAYERS:
            name = f"vmap {pixels}x{pixels}x{channels} {kind}"
            recorder.attempt(name, vmap, recorder, pixels, channels, kind, need=5)
    recorder.attempt("donated", donated, recorder, need=20)
    recorder.attempt("precision", precision, recorder, need=15)
    recorder.attempt("masked 2:4", masked, recorder, need=3)
    for sizes in [(8, 3, (3, 4), 1)] if recorder.small else STEMS:
        recorder.attempt(f"layout {sizes[0]}", layout, recorder, *sizes, need=5)
    answers(recorder)


PART = Part(
    "choices", "convolution path, vmap, layout, donation, precision, 2:4: answers", 2.5, run
)
