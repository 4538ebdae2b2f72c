"""What a mask update costs: ours against a full argsort, on the tree of a ResNet-50.

    python benchmarks/mask_update.py --json=mask_update.json

Ratios, each of two things measured in turn in one process:

    layerwise  seconds of an argsort of every leaf over seconds of our update, at a sparsity that
               moves with the step (its program is compiled once)
    global     the same for one ranking over all leaves
    compile    seconds to compile a step of SGD that prunes over those of SGD alone
    one_of_8   seconds of our update under vmap where one of eight runs is due, over an eighth of
               those where all are; `none_of_8`: where none is
    step       seconds of a wrapped step that updates no mask over those of SGD alone

Every time is a median; what is timed ends with `block_until_ready`. Cost: some three minutes on two
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

_JSON = flags.DEFINE_string("json", None, "file for the ratios")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "of each case")
_ONLY = flags.DEFINE_list("only", [], "names of ratios; by default all")
_SMALL = flags.DEFINE_bool("small", False, "a tree of two leaves, to try the program")
SPARSITY, END = 0.9, 100


def resnet50_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of its 161 parameters, 25.6 million weights."""
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


def updater(joint: bool = False) -> pruning.BaseUpdater:
    """Magnitude pruning whose sparsity moves with every step."""
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
    """Of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def in_turn(one, other, rounds: int) -> tuple[float, float]:
    """Medians of two timed calls that take a round's number, after one of each to warm up."""
    one(0), other(0)
    times = [(one(i), other(i)) for i in range(1, rounds + 1)]
    return tuple(float(np.median(column)) for column in zip(*times, strict=True))


def selection(params, joint):
    """Seconds of an argsort and of our update."""
    ours, sort = updater(joint), argsort_jointly if joint else argsort_each
    state = ours.init_state(params)
    update = jax.jit(ours.update_state)

    def run(i):
        return seconds(update, state._replace(count=jnp.int32(END - i)), params, None)

    return in_turn(lambda i: seconds(sort, params, 1 - SPARSITY), run, _ROUNDS.value)


def make_step(tx):
    """A step of an optimiser."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def compiling(params, unused):
    """Seconds to compile a wrapped and a bare step."""
    del unused
    sgd = optax.sgd(0.1, momentum=0.9)

    def compile_time(tx):
        jax.clear_caches()
        lowered = jax.jit(make_step(tx)).lower(params, tx.init(params), params)
        return seconds(lowered.compile)

    pruned = updater().wrap_optax(sgd)
    return in_turn(lambda i: compile_time(pruned), lambda i: compile_time(sgd), _ROUNDS.value)


def stepping(params, unused):
    """Seconds of a wrapped step that is not due, and of a bare one."""
    del unused
    sgd, runs = optax.sgd(0.1, momentum=0.9), []
    pruned = updater().wrap_optax(sgd)
    for tx in (pruned, sgd):
        state = tx.init(params)
        if tx is pruned:
            state = state._replace(count=jnp.int32(END + 1))
        runs.append(functools.partial(seconds, jax.jit(make_step(tx)), params, state, params))
    return in_turn(lambda i: runs[0](), lambda i: runs[1](), 5 * _ROUNDS.value)


def members(params, due):
    """Seconds of a vmapped update with `due` of eight members due, and an eighth of all eight's."""
    kernels = {name: w for name, w in params.items() if w.size <= 600_000}
    ours = updater()
    eight = jax.tree.map(lambda w: jnp.stack([w] * 8), kernels)
    state = jax.vmap(ours.init_state)(eight)
    tx = ours.wrap_optax(optax.identity())
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
        found = {
            "ratios": ratios,
            "seconds": times,
            "device": str(jax.devices()[0]),
            "machine": platform.processor() or platform.machine(),
            "jax": jax.__version__,
        }
        with open(_JSON.value, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    app.run(main)
