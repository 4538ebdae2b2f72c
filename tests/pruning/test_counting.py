"""How many weights stay: both rules against exact arithmetic, on the host and traced."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bap_jax import pruning
from bap_jax.errors import UserError
from bap_jax.pruning.counting import RULES, kept_count

ALMOST_ONE = math.nextafter(1, 0)
sizes = st.one_of(st.integers(1, 300), st.integers(1, 10_000_000))
decimals = st.integers(0, 999).map(lambda k: k / 1000)
sparsities = st.one_of(decimals, st.floats(0, ALMOST_ONE))
examples = settings(max_examples=300, deadline=None, derandomize=True)


def exact_ceil(sparsity, size):
    product = float(Fraction(sparsity) * size)  # rounded once, as a double product is
    return size - math.ceil(Fraction(product))


def exact_round(sparsity, size):
    if sparsity == 0:
        return size
    product = np.float32(size) * (np.float32(1) - np.float32(sparsity))
    return min(size, max(1, round(Fraction(float(product)))))  # of a Fraction: halves to even


@examples
@given(sparsities, sizes)
def test_ceil_is_the_double_product_rounded_up(sparsity, size):
    assert kept_count("ceil", sparsity, size) == exact_ceil(sparsity, size)


@examples
@given(sparsities, sizes)
def test_round_is_the_single_precision_product_rounded_half_to_even(sparsity, size):
    assert kept_count("round", sparsity, size) == exact_round(sparsity, size)


@examples
@given(sparsities, sparsities, sizes, st.sampled_from(sorted(RULES)))
def test_more_sparsity_never_keeps_more(one, other, size, rule):
    low, high = sorted((one, other))
    kept = kept_count(rule, high, size), kept_count(rule, low, size)
    assert 0 <= kept[0] <= kept[1] <= size


@pytest.mark.parametrize("size", [0, 1, 2, 100, 10_000_000])
def test_no_sparsity_keeps_all_and_almost_one_keeps_nothing_or_one(size):
    assert [kept_count(rule, 0.0, size) for rule in ("ceil", "round")] == [size, size]
    assert kept_count("round", ALMOST_ONE, size) == min(size, 1)
    assert kept_count("ceil", ALMOST_ONE, size) == 0


def test_rules_differ_where_the_double_product_passes_a_whole_number():
    assert 0.07 * 100 > 7
    assert kept_count("ceil", 0.07, 100) == 92
    assert kept_count("round", 0.07, 100) == 93
    assert kept_count("round", 0.5, 5) == 2  # 2.5
    assert kept_count("round", 0.5, 7) == 4  # 3.5


@pytest.mark.parametrize("size", [1, 97, 10_000_000])
def test_traced_round_is_that_of_the_host(size):
    values = np.float32([0, 1e-7, 0.001, 0.07, 0.25, 0.5, 0.9, 0.95, 0.995, 0.99999994])
    traced = jax.jit(jax.vmap(lambda s: kept_count("round", s, size)))(values)
    assert traced.dtype == jnp.int32
    np.testing.assert_array_equal(traced, [kept_count("round", float(s), size) for s in values])


def test_traced_ceil_takes_the_single_precision_sparsity():
    values = np.float32([0, 0.07, 0.25, 0.5, 0.9, 0.99])
    traced = jax.jit(jax.vmap(lambda s: kept_count("ceil", s, 100)))(values)
    expected = 100 - np.ceil(values * np.float32(100))
    np.testing.assert_array_equal(traced, expected)


@pytest.mark.parametrize("number", [np.float64(0.07), np.array(0.07), np.array([0.07])[0]])
def test_numbers_of_numpy_count_as_numbers_of_python(number):
    assert kept_count("ceil", number, 100) == 92
    assert isinstance(kept_count("ceil", number, 100), int)


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(UserError, match="unknown counting rule 'floor'; known: ceil, round"):
        kept_count("floor", 0.5, 10)
    with pytest.raises(UserError, match="unknown counting rule 'floor'; known: ceil, round"):
        pruning.MagnitudePruning(counting="floor")


def kept_while_training(scheduler, steps):
    """How many of 100 weights stay after each step of a compiled loop."""
    updater = pruning.MagnitudePruning(
        sparsity_distribution_fn=functools.partial(
            pruning.sparsity_distributions.uniform, sparsity=0.07
        ),
        scheduler=scheduler,
        counting="ceil",
    )
    tx = updater.wrap_optax(optax.sgd(0.1))
    params = {"w": jnp.linspace(-1.0, 2.0, 100).reshape(10, 10)}

    def step(state, _):
        _, state = tx.update(params, state, params)
        return state, jnp.sum(state.masks["w"], dtype=jnp.int32)

    state = jax.tree.map(jnp.asarray, tx.init(params))
    return jax.lax.scan(step, state, length=steps)[1].tolist()


def test_ceil_is_exact_in_a_compiled_loop():
    once = pruning.OneShotSchedule(1)
    assert kept_while_training(once, 3) == [100, 92, 92]


def test_ceil_is_exact_along_the_papers_schedule_in_a_compiled_loop():
    gradual = pruning.GradualSchedule(3)
    kept = [exact_ceil(float(s), 100) for s in gradual.tabulate(0.07)]
    assert len(set(kept)) > 2
    scheduler = pruning.InEpochs(gradual, steps_per_epoch=2)
    assert kept_while_training(scheduler, 8) == np.repeat(kept, 2).tolist()
