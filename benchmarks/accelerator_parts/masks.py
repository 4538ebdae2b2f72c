"""Mask updates of a ResNet-50's 25.6 million weights, over sorts, and as a share of a step.

    layerwise     magnitude masks for each layer over an argsort of every layer
    global        one ranking over all layers over an argsort of all scores
    2:4           two of four kept over a sort of every four, kernels whose inputs divide by 4
    share         a layerwise or global update over a training step of ResNet-50

The target changes with every update, so that nothing is computed beforehand.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import mask_work
import timing
import workloads
from mask_work import END, SPARSITY

from accelerator_parts import epoch, measure
from accelerator_parts.measure import Task, repeated
from accelerator_parts.part import Part, Recorder

BLOCK_SECONDS = 0.02  # of updates in a row; sorts of the same number take longer
STEPS = 2  # of the epoch that stands for a training step, if none was measured before


def update_of(updater, params) -> Callable[[], object]:
    """A function that computes new masks, for another target every time."""
    state, counts = updater.init_state(params), itertools.cycle(map(jnp.int32, range(1, END)))
    update = jax.jit(updater.update_state)
    return lambda: update(state._replace(count=next(counts)), params, None).masks


def pairs(params: dict) -> dict[str, tuple[Callable, Callable]]:
    """What is compared: an update and the sorts that it replaces."""
    kernels = {n: w for n, w in params.items() if w.ndim > 1 and w.shape[-2] % 4 == 0}
    return {
        "layerwise": (
            update_of(mask_work.make_updater(), params),
            lambda: mask_work.argsort_each(params, 1 - SPARSITY),
        ),
        "global": (
            update_of(mask_work.make_updater(joint=True), params),
            lambda: mask_work.argsort_jointly(params, 1 - SPARSITY),
        ),
        "2:4": (
            update_of(mask_work.make_group_updater(2, 4), kernels),
            lambda: mask_work.sort_groups(kernels, 2, 4),
        ),
    }


def step_case(precision: str) -> str:
    """The row of the part `steps` whose `ms` is that of a training step of ResNet-50."""
    return f"resnet50 {precision} in_epoch ceag/nft"


def step_row(recorder: Recorder, precision: str) -> dict:
    """The row `step_case`; a step is measured if there is none."""
    row = recorder.earlier("steps", step_case(precision))
    if row:
        return row
    network = measure.resnet50(recorder.small)
    model, train = epoch.build(network, precision), epoch.make_data(network, STEPS)
    variables, key = workloads.random_variables(model, train.inputs), jax.random.key(2)
    program = epoch.make_program(model, network, variables, train)
    tasks: dict[str, Task] = epoch.tasks_of(program, variables, train, key)
    compiled = measure.compile_all({"device": tasks["device"]})["device"]
    [seconds] = timing.interleaved({"step": compiled}, recorder.rounds(5)).values()
    return {"ms": timing.median_ms(seconds) / STEPS}


def share(recorder: Recorder, precision: str, updates: dict[str, float]) -> None:
    """A row for each kind of update."""
    step_ms = step_row(recorder, precision)["ms"]
    for name, ms in updates.items():
        case = f"{name} share of a step {precision}"
        recorder.row(case, ratio=ms / step_ms, ms=ms, against_ms=step_ms)


def run(recorder: Recorder) -> None:
    """Updates against sorts, then shares of a step."""
    updates = {}

    def compare(name, update, sort):
        count = measure.steps_of_a_block(update, 0 if recorder.small else BLOCK_SECONDS)
        runs = {"update": repeated(update, count), "sort": repeated(sort, count)}
        seconds = measure.compare(
            recorder, name, runs, [("update", "sort")], rounds=9, per=count, calls=count
        )
        updates[name] = timing.median_ms(seconds["update"]) / count

    params = mask_work.make_params(recorder.small)
    for name, (update, sort) in pairs(params).items():
        recorder.attempt(name, compare, name, update, sort, need=5)
    for precision in ("float32",) if recorder.small else measure.PRECISIONS:
        need = 5 if recorder.earlier("steps", step_case(precision)) else 45
        recorder.attempt(
            f"share of a step {precision}", share, recorder, precision, updates, need=need
        )


PART = Part(
    "masks", "mask update of 25.6 million weights ÷ argsort; 2:4; share of a step", 1.0, run
)
