"""Constraints on accuracy gaps, against numbers worked out by hand from `samples`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from bap_jax.constraints import excess_accuracy_gap, pairwise_disparity, worst_group_floor
from bap_jax.constraints.gaps import gap_estimator
from bap_jax.errors import UserError
from tests.constraints.samples import floats, observe, observe_bits, reference

TOLERANCE = 0.01
# Group 0 is right on 2 of 3 where the dense model is on .9, group 1 on 1 of 1 where it is on .8;
# of the five samples seen 3 are right, and the dense model is on .83.
GROUP_GAPS = np.array([0.9 - 2 / 3, 0.8 - 1])
EXCESS_GAPS = GROUP_GAPS - (0.83 - 0.6)
# Mean losses .5 and 1 against .2 and .4 of the dense model; of all 2.6 / 5 against .34.
GROUP_PROXIES = np.array([0.3, 0.6])
OVERALL = 0.52 - 0.34
EXCESS_PROXIES = GROUP_PROXIES - OVERALL


def values_of(constraint, *batches):
    """The values after these batches, and the state."""
    state, evaluate = constraint.init(), constraint.evaluate
    for batch in batches:
        values, state = evaluate(state, batch)
    return values, state


def check(values, violation, proxy, overall):
    """Groups 0 and 1 as given, group 2 never observed; one side after the other."""
    np.testing.assert_array_equal(values.violation_mask.reshape(-1, 3), [[1, 1, 0]] * len(overall))
    np.testing.assert_array_equal(values.proxy_mask, values.violation_mask)
    by_side = [getattr(values, name).reshape(-1, 3) for name in ("violation", "proxy", "overall")]
    np.testing.assert_allclose(by_side[0][:, :2], np.array(violation) - TOLERANCE, atol=1e-6)
    np.testing.assert_allclose(by_side[1][:, :2], proxy, atol=1e-6)
    expected = np.broadcast_to(np.array(overall)[:, None], (len(overall), 3))
    np.testing.assert_allclose(by_side[2], expected, atol=1e-6)
    assert values.tolerance == pytest.approx(TOLERANCE) and not values.equality


def test_excess_accuracy_gap():
    values, state = values_of(excess_accuracy_gap(reference(), TOLERANCE, buffer_size=0), observe())
    check(values, [EXCESS_GAPS], [EXCESS_PROXIES], [OVERALL])
    assert state == () and (values.deviation == 0).all()


def test_pairwise_disparity():
    constraint = pairwise_disparity(reference(), TOLERANCE, buffer_size=0)
    values, _ = values_of(constraint, observe())
    both = [EXCESS_GAPS, -EXCESS_GAPS], [EXCESS_PROXIES, -EXCESS_PROXIES]
    check(values, *both, [OVERALL, -OVERALL])
    assert constraint.size == 6
    assert constraint.names("abc") == [
        *"abc",
        "lower side of a",
        "lower side of b",
        "lower side of c",
    ]


def test_worst_group_floor():
    constraint = worst_group_floor(reference(), TOLERANCE, buffer_size=0)
    values, _ = values_of(constraint, observe())
    check(values, [GROUP_GAPS], [GROUP_PROXIES], [0.0])
    assert constraint.size == 3 and constraint.names("abc") == ["a", "b", "c"]


def test_kl_proxy():
    """Only samples 0 and 3 moved: from (½, ½) to (¼, ¾), a divergence of ½ ln 4/3."""
    logits = np.zeros((6, 2))
    logits[[0, 3, 4], 1] = np.log(3)
    batch = observe(logits=floats(logits), dense_logits=jnp.zeros((6, 2)))
    group, overall = 0.5 * np.log(4 / 3) * np.array([1 / 3, 1]), np.log(4 / 3) / 5
    for make, proxy, shared in (
        (excess_accuracy_gap, group - overall, overall),
        (worst_group_floor, group, 0.0),
    ):
        values, _ = values_of(make(reference(), TOLERANCE, buffer_size=0, proxy="kl"), batch)
        gaps = GROUP_GAPS if make is worst_group_floor else EXCESS_GAPS
        check(values, [gaps], [proxy], [shared])


@pytest.mark.parametrize(
    ("kind", "overall_gap"),
    [("population", 0.83 - 0.6 * 1 - 0.3 * 0.5), ("group_mean", 0.83 - 0.5)],
    ids=["population", "group_mean"],
)
def test_overall_accuracy_of_unbalanced_groups(kind, overall_gap):
    """Buffered accuracies 1, ½ and 0 of groups with 6, 3 and 1 of ten samples."""
    constraint = excess_accuracy_gap(reference(), 0.0, buffer_size=2, overall_accuracy=kind)
    batch = observe((0, 0, 1, 1, 2, 2), correct=(1, 1, 1, 0, 0, 0), weight=(1,) * 6)
    values, _ = values_of(constraint, batch)
    expected = np.array([0.9 - 1, 0.8 - 0.5, 0.5 - 0]) - overall_gap
    np.testing.assert_allclose(values.violation, expected, atol=1e-6)
    np.testing.assert_array_equal(values.violation_mask, [True] * 3)
    assert abs(reference().frequency @ values.violation) < 1e-6 or kind == "group_mean"


@pytest.mark.parametrize(
    ("kind", "overall_gap"),
    [("population", (0.6 * (0.9 - 1) + 0.3 * (0.8 - 0.5)) / 0.9), ("group_mean", 0.83 - 0.75)],
    ids=["population", "group_mean"],
)
def test_overall_accuracy_of_the_full_buffers(kind, overall_gap):
    constraint = excess_accuracy_gap(reference(), 0.0, buffer_size=2, overall_accuracy=kind)
    batch = observe((0, 0, 1, 1, 2, 7), correct=(1, 1, 1, 0, 0, 0), weight=(1,) * 6)
    values, _ = values_of(constraint, batch)
    np.testing.assert_array_equal(values.violation_mask, [True, True, False])
    np.testing.assert_array_equal(values.proxy_mask, [True] * 3)
    expected = np.array([0.9 - 1, 0.8 - 0.5]) - overall_gap
    np.testing.assert_allclose(values.violation[:2], expected, atol=1e-6)


def test_the_multipliers_see_the_buffer_and_the_weights_the_batch():
    constraint = worst_group_floor(reference(), 0.0, buffer_size=2)
    weight = (1, 1, 1, 0, 0, 0)
    first = observe((0, 0, 1, 1, 1, 1), loss=(5,) * 6, correct=(1, 0, 1, 1, 1, 1), weight=weight)
    second = observe((1,) * 6, loss=(1, 2, 3, 9, 9, 9), correct=(1, 1, 0, 0, 0, 0), weight=weight)
    values, state = values_of(constraint, first, second)
    np.testing.assert_array_equal(values.violation_mask, [True, True, False])
    np.testing.assert_array_equal(values.proxy_mask, [False, True, False])
    np.testing.assert_allclose(values.violation[:2], [0.9 - 0.5, 0.8 - 0.5], atol=1e-6)
    np.testing.assert_allclose(values.proxy[1], 2 - 0.4, atol=1e-6)
    np.testing.assert_allclose(values.deviation, [8**-0.5, 8**-0.5, 0], atol=1e-6)
    np.testing.assert_array_equal(state.seen, [2, 4, 0])


def test_a_single_group_has_no_excess_gap():
    one = reference((0.9,), (0.2,), (5,))
    for make, gap, proxy in (
        (excess_accuracy_gap, 0.0, 0.0),
        (worst_group_floor, 0.9 - 0.5, 0.5 - 0.2),
    ):
        batch = observe((0,) * 6, loss=(0.5,) * 6, correct=(1, 0) * 3, weight=(1,) * 6)
        values, _ = values_of(make(one, 0.25, buffer_size=2), batch)
        np.testing.assert_allclose(values.violation, [gap - 0.25], atol=1e-6)
        np.testing.assert_allclose(values.proxy, [proxy], atol=1e-6)


@pytest.mark.parametrize("buffer_size", [0, 1])
def test_a_sample_counts_for_every_attribute(buffer_size):
    """Groups 0 and 1 of one attribute, 2 and 3 of another; the dense model is right on half."""
    dense = reference((0.5,) * 4, (0.0,) * 4, (2, 2, 1, 3))
    dense = dense._replace(frequency=2 * dense.frequency)  # of each attribute they add up to 1
    batch = observe(
        ((0, 3), (1, 3), (1, 2)), loss=(3.0, 6.0, 0.0), correct=(1, 0, 1), weight=(1,) * 3
    )
    values, _ = values_of(excess_accuracy_gap(dense, 0.0, buffer_size=buffer_size), batch)
    np.testing.assert_allclose(values.proxy, [3 - 3, 3 - 3, 0 - 3, 4.5 - 3], atol=1e-6)
    accuracy = np.array([1, 0.5, 1, 0.5] if buffer_size == 0 else [1, 1, 1, 0])
    overall = 2 / 3 if buffer_size == 0 else np.array([0.5, 0.5, 0.25, 0.75]) @ accuracy / 2
    np.testing.assert_allclose(values.violation, overall - accuracy, atol=1e-6)


@pytest.mark.parametrize(
    "unseen",
    [
        {"weight": (0,) * 6},
        {"ids": (-1, 3, 99, -7, 2**31 - 1, -(2**31))},
    ],
    ids=["no weight", "no group"],
)
@pytest.mark.parametrize("buffer_size", [0, 2])
def test_samples_that_do_not_count(unseen, buffer_size):
    constraint = pairwise_disparity(reference(), TOLERANCE, buffer_size=buffer_size)
    before, state = values_of(constraint, observe())
    after, last = constraint.evaluate(state, observe(**unseen))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not after.proxy_mask.any()
    kept = before.violation_mask if buffer_size else jnp.zeros(6, bool)
    np.testing.assert_array_equal(after.violation_mask, kept)
    assert np.isfinite(after.violation).all() and np.isfinite(after.proxy).all()


def test_a_group_without_training_samples_changes_nothing():
    empty = reference((0.9, jnp.nan, jnp.nan), (0.3, jnp.nan, jnp.nan), (5, 0, 0))
    empty = empty._replace(accuracy=jnp.float32(0.9), loss=jnp.float32(0.3))
    batch = observe((0,) * 6, weight=(1,) * 6)
    values, _ = values_of(excess_accuracy_gap(empty, 0.0, buffer_size=2), batch)
    np.testing.assert_allclose(values.violation[0], 0, atol=1e-6)
    np.testing.assert_array_equal(values.violation_mask, [True, False, False])
    assert np.isfinite(values.deviation).all()


@pytest.mark.parametrize("make", [excess_accuracy_gap, pairwise_disparity, worst_group_floor])
@pytest.mark.parametrize("proxy", ["loss", "kl"])
def test_gradient_of_the_proxies(make, proxy):
    """Of a weighted sum over the groups of the batch."""
    constraint = make(reference(), TOLERANCE, buffer_size=0, proxy=proxy)
    keys = jax.random.split(jax.random.key(0), 3)
    logits, dense_logits = (jax.random.normal(key, (6, 3)) for key in keys[:2])
    mix = jax.random.normal(keys[2], (constraint.size,))

    @jax.jit
    def proxies(loss, logits):
        batch = observe(loss=loss, logits=logits, dense_logits=dense_logits)
        values, _ = constraint.evaluate(constraint.init(), batch)
        return jnp.where(values.proxy_mask, values.proxy, 0) @ mix

    args = floats((0.3, 0.5, 0.7, 1.0, 9.0, 0.1)), logits
    check_grads(proxies, args, order=1, modes="rev", atol=1e-2, rtol=1e-2)
    gradient = jax.tree.map(np.asarray, jax.grad(proxies, (0, 1))(*args))
    used = 0 if proxy == "loss" else 1
    assert gradient[used][0].any() and not gradient[1 - used].any()
    assert not gradient[used][4].any()  # padding


@pytest.mark.parametrize("make", [excess_accuracy_gap, pairwise_disparity, worst_group_floor])
def test_mistakes(make):
    with pytest.raises(UserError, match="unknown proxy 'accuracy'; known: loss, kl"):
        make(reference(), 0.01, proxy="accuracy")
    with pytest.raises(UserError, match="unknown estimator 'best'; known: plain, paired, control"):
        make(reference(), 0.01, estimator="best")
    with pytest.raises(UserError, match="replay buffer's memory must be at least 1 sample, got -1"):
        make(reference(), 0.01, buffer_size=-1).init()


@pytest.mark.parametrize("buffer_size", [0, 40])
def test_an_unknown_overall_accuracy_is_refused_at_construction(buffer_size):
    with pytest.raises(UserError, match="unknown kind of overall mean 'median'; known: population"):
        excess_accuracy_gap(reference(), 0.01, overall_accuracy="median", buffer_size=buffer_size)


def gaps_after(*batches, dense=None, **options):
    estimator = gap_estimator(reference() if dense is None else dense, **options)
    state = estimator.init()
    for batch in batches:
        found, state = estimator.update(state, batch)
    return found


def test_the_accuracy_is_the_dense_one_less_what_the_groups_seen_so_far_lost():
    """Of groups 0 and 1 with accuracies .9 and .8 and shares .6 and .3; group 2 was not seen."""
    found = gaps_after(
        observe((0, 0, 1, 1), loss=[0] * 4, correct=[1, 0, 1, 1], weight=[1] * 4), buffer_size=2
    )
    lost = (6 * (0.9 - 0.5) + 3 * (0.8 - 1)) / 9
    np.testing.assert_allclose(found.accuracy, reference().accuracy - lost, rtol=1e-6)
    deviation = 6 / 9 * np.sqrt(0.25 / 2)  # the second group's is 0 as a buffer states it
    unseen = 0.1
    np.testing.assert_allclose(found.accuracy_deviation, deviation + unseen, rtol=1e-6)


@pytest.mark.parametrize("attributes", [2, 8])
def test_groups_of_other_attributes_are_the_same_samples(attributes):
    """The same groups, stated again for every attribute, make the accuracy no more certain."""
    numbers = (0.9, 0.8), (0.2, 0.4), (6, 4)
    once = reference(*numbers)
    dense = reference(*(np.tile(values, attributes) for values in numbers))
    dense = dense._replace(frequency=dense.frequency * attributes, accuracy=once.accuracy)
    ids, bits = np.arange(40) % 2, np.arange(40) % 3 > 0
    both = [
        gaps_after(
            observe(groups, loss=bits, correct=bits, weight=np.ones(40)),
            dense=one,
            estimator="adaptive",
        )
        for groups, one in [(ids, once), (ids[:, None] + 2 * np.arange(attributes), dense)]
    ]
    one, same = ((found.accuracy, found.accuracy_deviation) for found in both)
    np.testing.assert_allclose(one, same, rtol=1e-5)
    assert one[1] > 0.01


def test_without_a_buffer_the_accuracy_counts_as_unknown():
    found = gaps_after(observe(), buffer_size=0)
    assert (found.accuracy, found.accuracy_deviation) == (0, 0)


@pytest.mark.parametrize("estimator", ["paired", "control_variate"])
def test_networks_that_agree_leave_no_variance(estimator):
    """Their moments cancel but for rounding, whose square root is none if it is below 0."""
    bits, ids = np.arange(40) % 10 > 0, np.zeros(40, int)
    batch = observe_bits(bits, bits, ids)
    found = gaps_after(batch, dense=reference((0.9,), (0.1,), (50,)), estimator=estimator)
    for value in (found.excess_variance, found.group_variance, found.accuracy_deviation):
        assert np.isfinite(value).all() and (np.asarray(value) >= 0).all()
