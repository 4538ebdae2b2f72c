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
import mask_work
import numpy as np
import optax
from absl import app, flags
from mask_work import END, SPARSITY, argsort_each, argsort_jointly, make_updater

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "rounds of each case")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; default: all")
_SMALL = flags.DEFINE_bool("small", False, "two small leaves, to try the script")


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
    params, ratios, times = mask_work.make_params(_SMALL.value), {}, {}
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
