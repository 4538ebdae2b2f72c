"""What a mask update costs: bap_jax against a full argsort, on the parameters of a ResNet-50.

    python benchmarks/mask_update.py --json=mask_update.json

Each ratio compares two things that take turns in one process:

    layerwise  an argsort of every leaf over a mask update, at a sparsity that changes with the step
               (the update is compiled once)
    global     the same for one ranking over all leaves
    compile    compiling an SGD step that prunes over compiling plain SGD
    one_of_8   a mask update under vmap when one of eight runs needs new masks, over an eighth of
               the update when all of them do; `none_of_8`: when none does
    step       an SGD step with pruning that updates no mask over a plain SGD step

All times are medians in seconds and include `block_until_ready`. Cost: about three minutes on two
cores, most of it sorting.
"""

import functools
import json
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from bap_jax import pruning
from bap_jax.pruning import sparsity_distributions

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "rounds of each case")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; default: all")
_SMALL = flags.DEFINE_bool("small", False, "two small leaves, to try the script")
SPARSITY, END = 0.9, 100


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the 161 parameters of a ResNet-50, 25.6 million weights."""
    shapes = {"stem/conv": (7, 7, 3, 64), "stem/norm": (64,)}
    width_in, block = 64, 0
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for position in range(blocks):
            kernels = [(1, 1, width_in, width), (3, 3, width, width), (1, 1, width, 4 * width)]
            if position == 0:
                kernels.append((1, 1, width_in, 4 * width))
            for i, kernel in enumerate(kernels):
                shapes[f"block_{block}/conv_{i}"] = kernel
                shapes[f"block_{block}/norm_{i}"] = kernel[-1:]
            width_in, block = 4 * width, block + 1
    norms = {f"{name}_bias": shape for name, shape in shapes.items() if len(shape) == 1}
    return {**shapes, **norms, "head/kernel": (2048, 1000), "head/bias": (1000,)}


def make_params() -> dict[str, jax.Array]:
    """Random weights."""
    shapes = {"a": (8, 8), "b": (8,)} if _SMALL.value else resnet50_shapes()
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def make_updater(joint: bool = False) -> pruning.BaseUpdater:
    """Magnitude pruning whose sparsity changes with every step."""
    scheduler = pruning.PolynomialSchedule(1, 0, END)
    if joint:
        return pruning.GlobalMagnitudePruning(scheduler=scheduler, sparsity=SPARSITY)
    uniform = functools.partial(sparsity_distributions.uniform, sparsity=SPARSITY)
    return pruning.MagnitudePruning(scheduler=scheduler, sparsity_distribution_fn=uniform)


@jax.jit
def argsort_each(params, kept_share):
    """The mask of every kernel from its sorted scores."""
    return {name: _argsort(w, kept_share) for name, w in params.items() if w.ndim > 1}


@jax.jit
def argsort_jointly(params, kept_share):
    """One mask from the sorted, normalised scores of all kernels."""
    kernels = [jnp.abs(w) for w in params.values() if w.ndim > 1]
    flat = [(w / (jnp.linalg.norm(w) + 1e-8)).ravel() for w in kernels]
    return _argsort(jnp.concatenate(flat), kept_share)


def _argsort(weight, kept_share):
    score = jnp.abs(weight).ravel()
    count = jnp.maximum(1, jnp.round(score.size * kept_share)).astype(jnp.int32)
    rank = jnp.argsort(-score)
    last = rank[count - 1]
    tied = score == score[last]
    keep = (score > score[last]) | (tied & (jnp.arange(score.size) <= last))
    return keep.astype(jnp.uint8).reshape(weight.shape)


def seconds(function, *arguments) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def in_turn(measure, measure_other, rounds: int) -> tuple[float, float]:
    """Medians of two measurements, which take the number of a round; round 0 is a warm-up."""
    times = [(measure(i), measure_other(i)) for i in range(rounds + 1)][1:]
    first, second = (float(np.median(column)) for column in zip(*times, strict=True))
    return first, second


def selection(params, joint):
    """Seconds of an argsort and of a mask update."""
    updater, sort = make_updater(joint), argsort_jointly if joint else argsort_each
    state = updater.init_state(params)
    update = jax.jit(updater.update_state)

    def run(i):
        return seconds(update, state._replace(count=jnp.int32(END - i)), params, None)

    return in_turn(lambda i: seconds(sort, params, 1 - SPARSITY), run, _ROUNDS.value)


def make_step(tx):
    """A step of the optimiser `tx`."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def compiling(params, unused):
    """Seconds to compile a step with pruning and a plain step."""
    del unused
    sgd = optax.sgd(0.1, momentum=0.9)

    def compile_time(tx):
        jax.clear_caches()
        lowered = jax.jit(make_step(tx)).lower(params, tx.init(params), params)
        return seconds(lowered.compile)

    pruned = make_updater().wrap_optax(sgd)
    return in_turn(lambda i: compile_time(pruned), lambda i: compile_time(sgd), _ROUNDS.value)


def stepping(params, unused):
    """Seconds of a step with pruning that updates no mask, and of a plain step."""
    del unused
    sgd, runs = optax.sgd(0.1, momentum=0.9), []
    pruned = make_updater().wrap_optax(sgd)
    for tx in (pruned, sgd):
        state = tx.init(params)
        if tx is pruned:
            state = state._replace(count=jnp.int32(END + 1))
        runs.append(functools.partial(seconds, jax.jit(make_step(tx)), params, state, params))
    return in_turn(lambda i: runs[0](), lambda i: runs[1](), 5 * _ROUNDS.value)


def members(params, due):
    """Seconds of a vmapped update of `due` of eight members, and an eighth of those for all."""
    kernels = {name: w for name, w in params.items() if w.size <= 600_000}
    updater = make_updater()
    eight = jax.tree.map(lambda w: jnp.stack([w] * 8), kernels)
    state = jax.vmap(updater.init_state)(eight)
    tx = updater.wrap_optax(optax.identity())
    step = jax.jit(jax.vmap(lambda s, p: tx.update(p, s, p)[1].masks))

    def run(number):
        counts = jnp.where(jnp.arange(8) < number, 1, END + 1).astype(jnp.int32)
        full = state._replace(count=counts, inner_state=optax.EmptyState())
        return seconds(step, full, eight)

    some, every = in_turn(lambda i: run(due), lambda i: run(8), 3 * _ROUNDS.value)
    return some, every / 8


CASES = {
    "layerwise": (selection, False),
    "global": (selection, True),
    "compile": (compiling, None),
    "one_of_8": (members, 1),
    "none_of_8": (members, 0),
    "step": (stepping, None),
}


def main(argv):
    del argv
    params, ratios, times = make_params(), {}, {}
    for name in _ONLY.value or CASES:
        measure, option = CASES[name]
        times[name] = measure(params, option)
        ratios[name] = times[name][0] / times[name][1]
        print(f"{name:10} {times[name][0]:8.3f} s / {times[name][1]:8.3f} s = {ratios[name]:7.2f}")
    if _JSON.value:
        results = {
            "ratios": ratios,
            "seconds": times,
            "device": str(jax.devices()[0]),
            "machine": platform.processor() or platform.machine(),
            "jax": jax.__version__,
        }
        with open(_JSON.value, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    app.run(main)
