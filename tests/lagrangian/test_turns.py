"""In which order weights and multipliers move: every scheme against a NumPy loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bap_jax import lagrangian
from bap_jax.constraints import constraint_values
from bap_jax.types import Array
from tests.lagrangian.problems import toy_2d

RATE = 0.3
START = (np.array([0.3, -1.0]), np.array([0.2, 0.4]))


def gradient(point, multipliers):
    """Of x² + 2y² + λ₁(1 − x − y) + λ₂(x² + y − 1)."""
    (x, y), (one, two) = point, multipliers
    return np.array([2 * x - one + 2 * x * two, 4 * y - one + two])


def violation(point):
    x, y = point
    return np.array([1 - x - y, x**2 + y - 1])


def value(point, multipliers):
    x, y = point
    return x**2 + 2 * y**2 + multipliers @ violation(point)


def ascend(multipliers, seen):
    return np.maximum(multipliers + RATE * seen, 0)


# A numpy optimiser is `(gradient, memory) -> (update, memory)`; None is its first memory.
def sgd(gradient, memory):
    return -0.1 * gradient, memory


def momentum(gradient, memory):
    trace = gradient if memory is None else 0.8 * memory + gradient
    return -0.05 * trace, trace


def adam(gradient, memory):
    count, first, second = (0, 0.0, 0.0) if memory is None else memory
    count += 1
    first = 0.9 * first + 0.1 * gradient
    second = 0.99 * second + 0.01 * gradient**2
    update = first / (1 - 0.9**count) / (np.sqrt(second / (1 - 0.99**count)) + 1e-8)
    return -0.05 * update, (count, first, second)


def plain_ascent(gradient, memory):
    return -RATE * gradient, memory


OPTIMIZERS = {
    "sgd": (sgd, optax.sgd(0.1)),
    "momentum": (momentum, optax.sgd(0.05, 0.8)),
    "adam": (adam, optax.adam(0.05, b2=0.99)),
}


# Each loop yields params and multipliers after a step, the point where the problem was evaluated
# last, and the multipliers that the weights saw.
def simultaneous(optimizer, x, lam, memory=None):
    while True:
        at, seen = x, lam
        update, memory = optimizer(gradient(x, lam), memory)
        x, lam = x + update, ascend(lam, violation(x))
        yield x, lam, at, seen


def dual_primal(optimizer, x, lam, memory=None):
    while True:
        at, lam = x, ascend(lam, violation(x))
        update, memory = optimizer(gradient(x, lam), memory)
        x = x + update
        yield x, lam, at, lam


def primal_dual(optimizer, x, lam, memory=None):
    while True:
        seen = lam
        update, memory = optimizer(gradient(x, lam), memory)
        x = x + update
        lam = ascend(lam, violation(x))
        yield x, lam, x, seen


def extragradient(optimizer, x, lam, memory=None, keep_ahead=False, dual_optimizer=None):
    dual_optimizer, dual_memory = dual_optimizer or plain_ascent, None
    while True:
        update, ahead_memory = optimizer(gradient(x, lam), memory)
        dual_update, ahead_dual_memory = dual_optimizer(-violation(x), dual_memory)
        at, seen = x + update, np.maximum(lam + dual_update, 0)
        if keep_ahead:
            memory, dual_memory = ahead_memory, ahead_dual_memory
        update, memory = optimizer(gradient(at, seen), memory)
        dual_update, dual_memory = dual_optimizer(-violation(at), dual_memory)
        x, lam = x + update, np.maximum(lam + dual_update, 0)
        yield x, lam, at, seen


def optimistic(optimizer, x, lam, memory=None):
    last_update = last_violation = None
    while True:
        at, seen = x, lam
        update, memory = optimizer(gradient(x, lam), memory)
        violated = violation(x)
        if last_update is None:
            last_update, last_violation = update, violated
        x = x + 2 * update - last_update
        lam = ascend(lam, 2 * violated - last_violation)
        last_update, last_violation = update, violated
        yield x, lam, at, seen


TURNS = [simultaneous, dual_primal, primal_dual, extragradient, optimistic]


def compare(loop, optimizer, steps=25, dual=None, **options):
    by_hand, primal = OPTIMIZERS[optimizer]
    dual_by_hand, dual_optimizer = OPTIMIZERS[dual] if dual else (None, optax.sgd(RATE))
    by_hand_options = options | ({"dual_optimizer": dual_by_hand} if dual else {})
    with jax.enable_x64(True):
        formulation = lagrangian.gradient_ascent(dual_optimizer, start=START[1])
        scheme = lagrangian.build_scheme(loop.__name__, primal, formulation, **options)
        update = jax.jit(lambda *carry: scheme.update(toy_2d(), *carry))
        params = jnp.array(START[0])
        state = scheme.init(params, 2)
        expected = loop(by_hand, *START, **by_hand_options)
        for _, (x, lam, at, seen) in zip(range(steps), expected, strict=False):
            params, state, info = update(params, state)
            found = (params, state.multipliers, info.evaluation.constraints.violation)
            for one, other in zip(found, (x, lam, violation(at)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(info.multipliers, seen, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(info.lagrangian, value(at, seen), rtol=1e-9)
        return np.array(params)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loop", TURNS)
def test_a_scheme_equals_its_loop(loop, optimizer):
    compare(loop, optimizer)


@pytest.mark.parametrize(
    ("optimizer", "dual"),
    [("momentum", None), ("adam", None), ("sgd", "adam"), ("adam", "momentum")],
)
def test_a_trial_step_that_is_remembered_changes_the_run(optimizer, dual):
    kept = compare(extragradient, optimizer, dual=dual, keep_ahead=True)
    assert np.abs(kept - compare(extragradient, optimizer, dual=dual)).max() > 1e-3


def test_a_trial_step_is_not_counted():
    params, scheme = jnp.zeros(2), lagrangian.extragradient(optax.adam(0.1), optax.adam(0.1))
    state = scheme.init(params, 2)
    for _ in range(3):
        params, state, _ = scheme.update(toy_2d(), params, state)
    assert state.primal_state[0].count == 3 and state.dual.memory[0].count == 3


def test_a_remembered_trial_step_counts_in_every_set_of_constraints():
    def problem(params):
        return lagrangian.Evaluation(params**2, dict.fromkeys("ab", constraint_values(1 - params)))

    formulations = dict.fromkeys("ab", optax.adam(0.1))
    scheme = lagrangian.extragradient(optax.adam(0.1), formulations, keep_ahead=True)
    params = jnp.zeros(())
    state = scheme.init(params, dict.fromkeys("ab", 1))
    for _ in range(3):
        params, state, _ = scheme.update(problem, params, state)
    assert state.primal_state[0].count == 6
    assert [dual.memory[0].count for dual in state.dual.values()] == [6, 6]


@pytest.mark.parametrize("make", [lagrangian.primal_dual, lagrangian.extragradient])
def test_chained_passes_the_first_evaluation_to_the_second(make):
    """A replay buffer to which both forward passes push needs it."""
    calls = []

    def problem(params, pushed: Array, after=None):
        calls.append(after is not None)
        before = pushed if after is None else after.aux
        return lagrangian.Evaluation(params**2, constraint_values(1 - params), before + 1)

    for chained, expected in ((True, 2), (False, 1)):
        scheme = make(optax.sgd(0.1), optax.sgd(0.1), chained=chained)
        params = jnp.ones(())
        _, _, info = scheme.update(problem, params, scheme.init(params, 1), jnp.int32(0))
        assert info.evaluation.aux == expected
    assert calls == [False, True, False, False]
