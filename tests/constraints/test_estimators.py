"""Estimates of group accuracies: by hand, and their variance against simulation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints.estimators import (
    ESTIMATORS,
    OVERALL,
    accuracy_estimator,
    mean_estimator,
    overall_mean,
    overall_shares,
)
from bap_jax.constraints.gaps import gap_estimator
from bap_jax.errors import UserError
from tests.constraints.samples import floats, observe, observe_bits, reference

BUFFERED = [kind for kind in ESTIMATORS if kind != "adaptive"]  # see test_adaptive_memory

SPARSE = (1, 1, 0, 1, 0, 1, 0, 0)  # four samples of group 0, then four of group 1
DENSE = (1, 1, 1, 0, 0, 1, 1, 0)
BOTH_IDS = (0,) * 4 + (1,) * 4


def estimate(kind, sparse=SPARSE, dense=DENSE, ids=BOTH_IDS, memory=4):
    accuracy = accuracy_estimator(reference((0.9, 0.6), (0.0, 0.0), (5, 5)), memory, kind)
    return jax.jit(accuracy.update)(accuracy.init(), observe_bits(sparse, dense, ids))[0]


@pytest.mark.parametrize(
    ("kind", "mean", "variance"),
    [
        ("plain", (0.75, 0.25), (0.1875 / 4, 0.1875 / 4)),
        # Covariances −.0625 and .125, dense variances .1875 and .25, dense means .75 and .5.
        ("paired", (0.9, 0.35), (0.5 / 4, 0.1875 / 4)),
        (
            "control_variate",  # c = .0625 / .4375 = 1/7
            (0.75 + 0.15 / 7, 0.25 + 0.1 / 7),
            (
                (0.1875 + 0.1875 / 49 + 0.125 / 7) / 4,
                (0.1875 + 0.25 / 49 - 0.25 / 7) / 4,
            ),
        ),
    ],
)
def test_by_hand(kind, mean, variance):
    found = estimate(kind)
    np.testing.assert_array_equal(found.observed, [True, True])
    np.testing.assert_allclose(found.mean, mean, atol=1e-6)
    np.testing.assert_allclose(found.variance, variance, atol=1e-7)


@pytest.mark.parametrize("kind", BUFFERED)
def test_a_group_is_observed_once_its_buffer_is_full(kind):
    """Group 0 has four samples; group 1 has three, which must not enter c."""
    found = estimate(kind, SPARSE[:7], DENSE[:7], BOTH_IDS[:7])
    np.testing.assert_array_equal(found.observed, [True, False])
    assert found.mean[1] == found.variance[1] == 0
    c = {"plain": 0, "paired": 1, "control_variate": -1 / 3}[kind]  # −.0625 / .1875
    np.testing.assert_allclose(found.mean[0], 0.75 + 0.15 * c, atol=1e-6)


def test_a_dense_model_that_is_always_right_corrects_nothing():
    found = estimate("control_variate", dense=(1,) * 8)
    np.testing.assert_allclose(found.mean, [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(found.variance, [0.1875 / 4] * 2, atol=1e-7)


def test_old_pairs_leave_the_buffer():
    accuracy = accuracy_estimator(reference((0.5,), (0.0,), (9,)), 2, "paired")
    state, update = accuracy.init(), jax.jit(accuracy.update)
    for bits in (((0, 0), (0, 0)), ((1, 1), (1, 0))):
        found, state = update(state, observe_bits(*bits, (0, 0)))
    np.testing.assert_allclose(found.mean, [1 - (0.5 - 0.5)], atol=1e-6)


def test_without_a_buffer_the_batch_alone_counts():
    accuracy = accuracy_estimator(reference(), 0)
    found, state = jax.jit(accuracy.update)(accuracy.init(), observe())
    assert state == ()
    np.testing.assert_allclose(found.mean, [2 / 3, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(found.observed, [True, True, False])


def test_means_of_any_values():
    estimator = mean_estimator(3, 2, lambda seen: 2 * seen.loss)
    found, _ = jax.jit(estimator.update)(estimator.init(), observe())
    np.testing.assert_allclose(found.mean, [0.5 + 0.7, 0, 0], atol=1e-6)  # the newest two of 0
    np.testing.assert_array_equal(found.observed, [True, False, False])


@pytest.mark.parametrize("kind", ["paired", "control_variate"])
def test_pairs_need_a_buffer(kind):
    with pytest.raises(UserError, match=f"the {kind} estimator needs a buffer; write a buffer"):
        accuracy_estimator(reference(), 0, kind)


def test_unknown_names():
    with pytest.raises(UserError, match="unknown estimator 'best'; known: plain, paired, control"):
        accuracy_estimator(reference(), 40, "best")
    with pytest.raises(UserError, match="kind of overall mean 'mode'; known: population, group_m"):
        overall_shares(jnp.ones(2, bool), jnp.ones(2), "mode")


@pytest.mark.parametrize(("kind", "expected"), list(zip(OVERALL, (0.6 / 0.9, 0.5), strict=True)))
def test_overall_mean_of_the_observed(kind, expected):
    """Group 2 is not observed, and what it holds is not a number."""
    values, observed = jnp.array([1.0, 0.0, jnp.nan]), jnp.array([True, True, False])
    found = overall_mean(values, overall_shares(observed, jnp.array([0.6, 0.3, 0.1]), kind))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    nothing = overall_mean(values, overall_shares(jnp.zeros(3, bool), observed * 0.5, kind))
    assert nothing == 0


GROUPS, MEMORY, RUNS = 5, 40, 2000
SPARSE_ACCURACY, DENSE_ACCURACY = 0.7, 0.8
SPREADS = np.sqrt([0.7 * 0.3, 0.8 * 0.2])  # of one bit
# 10,000 estimates give a variance to within 1.4 %, and the 2000 of one group to within 3.2 %.
# Estimating c from 200 pairs costs 1 %, and the variance of bits from 40 of them 2.5 %.
MARGIN = 0.06


def draw(key, correlation):
    """`(group · memory,)` bits of both models; `(group,)` correlations."""
    keys = jax.random.split(key)
    lift = jnp.repeat(correlation, MEMORY) * SPREADS[0] / SPREADS[1]
    dense = jax.random.bernoulli(keys[0], DENSE_ACCURACY, (GROUPS * MEMORY,))
    return jax.random.bernoulli(keys[1], SPARSE_ACCURACY + lift * (dense - DENSE_ACCURACY)), dense


@functools.cache
def simulation(kind, overall="population", observed=GROUPS):
    """`correlation -> GapEstimates`, fields `(run, group)`, runs from an empty buffer; compiled."""
    dense = reference((DENSE_ACCURACY,) * GROUPS, (0.0,) * GROUPS, (1, 2, 3, 4, 10))
    gaps = gap_estimator(dense, buffer_size=MEMORY, estimator=kind, overall_accuracy=overall)
    ids = np.arange(GROUPS).repeat(MEMORY)
    ids = np.where(ids < observed, ids, GROUPS)

    def one_run(key, correlation):
        return gaps.update(gaps.init(), observe_bits(*draw(key, correlation), ids))[0]

    mapped = jax.jit(jax.vmap(one_run, in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), RUNS)

    @functools.cache
    def run(*correlation):
        found = mapped(keys, floats(np.broadcast_to(correlation, GROUPS)))
        return jax.tree.map(np.asarray, found)

    return run


def spread(found, axis=None):
    """Variance of estimated group gaps around the truth, over runs and groups."""
    return np.mean((found.group - (DENSE_ACCURACY - SPARSE_ACCURACY)) ** 2, axis)


def bit_variance(kind, correlation):
    """The exact variance of one bit's contribution, c known."""
    s, d = SPREADS
    c = {"plain": 0.0, "adaptive": 0.0, "paired": 1.0, "control_variate": correlation * s / d}[kind]
    return s**2 + c**2 * d**2 - 2 * c * correlation * s * d


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("kind", ESTIMATORS)
def test_variance(kind, correlation):
    found = simulation(kind)(correlation)
    expected = bit_variance(kind, correlation) / MEMORY
    np.testing.assert_allclose(spread(found), expected, rtol=MARGIN)
    # The adaptive one knows only its samples of one batch, and one of them may well be wrong.
    margin = 0.15 if kind == "adaptive" else MARGIN
    np.testing.assert_allclose(found.group_variance.mean(), spread(found), rtol=margin)
    error = np.sqrt(expected / found.group.size)
    truth = DENSE_ACCURACY - SPARSE_ACCURACY
    np.testing.assert_allclose(found.group.mean(), truth, atol=5 * error + 1e-3)


def test_control_variate_is_never_worse_and_pairing_only_where_models_agree():
    ratio = {kind: [] for kind in ESTIMATORS}
    for correlation in (0.0, 0.3, 0.7):
        plain = spread(simulation("plain")(correlation))
        for kind in ESTIMATORS:
            ratio[kind].append(spread(simulation(kind)(correlation)) / plain)
    assert max(ratio["control_variate"]) < 1 + MARGIN
    assert ratio["control_variate"][2] < 0.51 + MARGIN  # 1 − .7²
    assert min(ratio["paired"][:2]) > 1.1 and ratio["paired"][2] < 0.6


def test_pooling_may_cost_one_group_but_not_the_sum():
    """c is shared: a group whose models disagree gets the noise of the others' correction."""
    mixed = (0.75, 0.75, 0.75, 0.75, 0.0)
    plain, found = (simulation(kind)(*mixed) for kind in ("plain", "control_variate"))
    ratio = spread(found, axis=0) / spread(plain, axis=0)
    assert (ratio[:4] < 0.6).all() and ratio[4] > 1.2
    assert spread(found) < spread(plain)
    np.testing.assert_allclose(found.group_variance.mean(0), spread(found, axis=0), rtol=0.12)


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("plain", {}),
        ("control_variate", {}),
        ("plain", {"overall": "group_mean"}),
        ("plain", {"observed": GROUPS - 1}),  # the largest group is never observed
    ],
    ids=str,
)
def test_variance_of_excess_gaps(kind, others):
    found = simulation(kind, **others)(0.7)
    seen = found.observed[0]
    assert seen.sum() == others.get("observed", GROUPS)
    true = np.var(found.excess, axis=0)
    reported = found.excess_variance.mean(0)
    np.testing.assert_allclose(reported[seen], true[seen], rtol=0.12)


def test_the_variance_of_an_excess_gap_by_hand():
    """Two groups, .75 and .25 of everybody: ψ_0 = .25 (Δ_0 − Δ_1), ψ_1 = .75 (Δ_1 − Δ_0)."""
    dense = reference((0.9, 0.6), (0.0, 0.0), (6, 2))
    gaps = gap_estimator(dense, buffer_size=4)
    found, _ = jax.jit(gaps.update)(gaps.init(), observe_bits(SPARSE, DENSE, BOTH_IDS))
    both = 2 * 0.1875 / 4
    np.testing.assert_allclose(found.group_variance, [0.1875 / 4] * 2, atol=1e-7)
    np.testing.assert_allclose(found.excess_variance, floats([both / 16, 9 * both / 16]), atol=1e-7)
    np.testing.assert_allclose(found.group, [0.15, 0.35], atol=1e-6)
    np.testing.assert_allclose(found.excess, [0.25 * -0.2, 0.75 * 0.2], atol=1e-6)
