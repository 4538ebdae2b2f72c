"""Losses, divergences and risks of groups by hand, and combinations of constraints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints import (
    Constraint,
    activate_when,
    combine,
    constraint_values,
    equalized_loss,
    excess_accuracy_gap,
    group_distillation,
    group_risk,
    performance_weighted_loss,
    restrict,
    unconstrained,
    worst_group_floor,
)
from bap_jax.constraints.estimators import OVERALL
from bap_jax.errors import UserError
from tests.constraints.samples import LOSS, floats, observe, reference
from tests.constraints.test_accuracy_gap import values_of

# Mean losses of the batch: .5 and 1 of groups 0 and 1, .52 of all five samples seen.
EXCESS_LOSSES = np.array([0.5 - 0.52, 1 - 0.52])
SEEN = [True, True, False]


@pytest.mark.parametrize("absolute", [False, True])
def test_equalized_loss(absolute):
    values, state = values_of(equalized_loss(reference(), absolute=absolute), observe())
    expected = np.abs(EXCESS_LOSSES) if absolute else EXCESS_LOSSES
    np.testing.assert_allclose(values.violation[:2], expected, atol=1e-6)
    np.testing.assert_array_equal(values.violation, values.proxy)
    np.testing.assert_array_equal([values.violation_mask, values.proxy_mask], [SEEN] * 2)
    assert values.equality and np.all(values.overall == 0) and state == ()


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(
    ("overall", "mean"),
    [("population", (0.6 * 0.6 + 0.3 * 4) / 0.9), ("group_mean", 2.3)],
    ids=OVERALL,
)
def test_equalized_loss_with_a_buffer(overall, mean, absolute):
    """The last two losses: .5 and .7 of group 0, 1 and 7 of group 1, one alone of group 2."""
    constraint = equalized_loss(reference(), absolute=absolute, buffer_size=2, overall_loss=overall)
    more = observe((1, 2, 7, 7, 7, 7), loss=(7, 5, 0, 0, 0, 0), weight=(1, 1, 0, 0, 0, 0))
    values, _ = values_of(constraint, observe(), more)
    sign = np.abs if absolute else np.positive
    np.testing.assert_allclose(values.violation[:2], sign(np.array([0.6, 4]) - mean), atol=1e-6)
    np.testing.assert_array_equal(values.violation_mask, SEEN)
    np.testing.assert_array_equal(values.proxy_mask, [False, True, True])
    np.testing.assert_allclose(values.proxy[1:], sign(np.array([7 - 6.0, 5 - 6])), atol=1e-6)


@pytest.mark.parametrize("absolute", [False, True])
def test_equalized_loss_without_a_gradient_through_the_overall_loss(absolute):
    """Group means have 1/3 and 1 as derivatives, the mean of the five samples seen 1/5."""
    losses = floats(LOSS)

    def proxies(losses, group, **options):
        constraint = equalized_loss(reference(), absolute=absolute, **options)
        return constraint.evaluate((), observe(loss=losses))[0].proxy[group]

    group_0, group_1 = np.array([1, 1, 1, 0, 0, 0]) / 3, np.array([0, 0, 0, 1, 0, 0])
    overall = np.array([1, 1, 1, 1, 0, 1]) / 5
    for group, own in enumerate((group_0, group_1)):
        sign = np.sign(EXCESS_LOSSES[group]) if absolute else 1
        for detach, expected in ((True, own), (False, own - overall)):
            value, found = jax.value_and_grad(proxies)(losses, group, detach_overall=detach)
            np.testing.assert_allclose(value, sign * EXCESS_LOSSES[group], atol=1e-6)
            np.testing.assert_allclose(found, sign * expected, atol=1e-6)


def test_an_absolute_difference_has_a_gradient_where_it_is_zero():
    constraint = equalized_loss(reference(), absolute=True)

    def proxies(loss):
        return constraint.evaluate((), observe(loss=loss))[0].proxy.sum()

    assert np.isfinite(jax.jit(jax.grad(proxies))(jnp.ones(6))).all()


def diverged(samples):
    """The batch, with these samples moved from (½, ½) to (¼, ¾): a divergence of ½ ln 4/3."""
    logits = np.zeros((6, 2))
    logits[samples, 1] = np.log(3)
    return observe(logits=floats(logits), dense_logits=jnp.zeros((6, 2)))


def test_group_distillation():
    one = 0.5 * np.log(4 / 3)
    values, _ = values_of(group_distillation(reference(), 0.05, buffer_size=0), diverged([0, 3, 4]))
    np.testing.assert_allclose(values.proxy[:2], [one / 3, one], atol=1e-6)
    np.testing.assert_allclose(values.violation[:2], [one / 3 - 0.05, one - 0.05], atol=1e-6)
    np.testing.assert_array_equal([values.violation_mask, values.proxy_mask], [SEEN] * 2)
    assert values.tolerance == pytest.approx(0.05) and not values.equality


def test_group_distillation_with_a_buffer():
    """Group 0's last three samples hold one that moved, group 1 never has three."""
    constraint = group_distillation(reference(), 0.0, buffer_size=3)
    values, _ = values_of(constraint, diverged([0, 1]), diverged([2, 3]))
    np.testing.assert_array_equal(values.violation_mask, [True, False, False])
    np.testing.assert_array_equal(values.proxy_mask, SEEN)
    np.testing.assert_allclose(values.violation[0], 0.5 * np.log(4 / 3) / 3, atol=1e-6)
    np.testing.assert_allclose(values.proxy[1], 0.5 * np.log(4 / 3), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "offset"),
    [
        ({}, (0, 0)),
        ({"adjustment": 2.0}, (2 / 6**0.5, 2 / 3**0.5)),
        ({"excess": True}, (-0.2, -0.4)),
        ({"adjustment": 1.0, "excess": True}, (6**-0.5 - 0.2, 3**-0.5 - 0.4)),
    ],
)
def test_group_risk(options, offset):
    values, _ = values_of(group_risk(reference(), **options), observe())
    np.testing.assert_allclose(values.violation[:2], np.array([0.5, 1]) + offset, atol=1e-6)
    np.testing.assert_allclose(values.proxy[:2], EXCESS_LOSSES, atol=1e-6)
    np.testing.assert_array_equal([values.violation_mask, values.proxy_mask], [SEEN] * 2)


def test_the_risk_of_a_group_without_samples_stays_finite():
    values, _ = values_of(group_risk(reference(count=(5, 5, 0)), adjustment=1.0), observe())
    assert np.isfinite(values.violation).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: equalized_loss(reference(), buffer_size=2),
        lambda: group_distillation(reference(), 0.1, buffer_size=2),
        lambda: group_risk(reference()),
    ],
)
def test_padding_does_not_count(make):
    constraint = make()
    batch = diverged([0, 3])
    _, state = values_of(constraint, batch)
    values, after = constraint.evaluate(state, batch._replace(weight=jnp.zeros(6)))
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not values.proxy_mask.any()


def pair():
    return combine(
        {
            "gap": excess_accuracy_gap(reference(), 0.01, buffer_size=2),
            "loss": equalized_loss(reference()),
        }
    )


def test_several_sets_have_names():
    both = pair()
    assert both.size == {"gap": 3, "loss": 3}
    assert both.names("abc") == {"gap": ["a", "b", "c"], "loss": ["a", "b", "c"]}
    values, state = values_of(both, observe(), observe())
    for name, alone in (
        ("gap", excess_accuracy_gap(reference(), 0.01, buffer_size=2)),
        ("loss", equalized_loss(reference())),
    ):
        expected = values_of(alone, observe(), observe())
        for one, other in zip(
            jax.tree.leaves((values[name], state[name])), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_restrict_to_some_constraints():
    whole = worst_group_floor(reference(), 0.01, buffer_size=1)
    part = restrict(whole, jnp.array([False, True, True]))
    assert isinstance(part, Constraint) and part.size == 3 and part.names("abc") == list("abc")
    (values, state), (expected, same) = (values_of(one, observe()) for one in (part, whole))
    np.testing.assert_array_equal(values.violation_mask, [False, True, False])
    np.testing.assert_array_equal(values.proxy_mask, [False, True, False])
    np.testing.assert_array_equal(values.violation, expected.violation)
    np.testing.assert_array_equal(state.values, same.values)


@pytest.mark.parametrize("active", [True, False, (True, False)])
def test_activate_when(active):
    values = constraint_values(jnp.ones(2), violation_mask=jnp.array([True, True]))
    found = activate_when(values, jnp.asarray(active))
    expected = np.broadcast_to(active, 2)
    np.testing.assert_array_equal([found.violation_mask, found.proxy_mask], [expected] * 2)
    np.testing.assert_array_equal(found.violation, values.violation)


def test_unconstrained():
    values, state = values_of(unconstrained(), observe())
    assert unconstrained().size == 0 and values.violation.shape == (0,) and state == ()


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (lambda: group_distillation(reference(), 0.05, buffer_size=0).evaluate, "logits"),
        (lambda: group_distillation(reference(), 0.05, buffer_size=0).evaluate, "dense_logits"),
        (lambda: lambda state, seen: performance_weighted_loss()(seen), "labels"),
    ],
)
def test_what_the_observations_lack_is_named(make, missing):
    observations = diverged([0])._replace(labels=jnp.zeros(6, int))._replace(**{missing: None})
    message = {
        "logits": r"needs logits, and the observations have none; write .*\(logits=\.\.\.\)",
        "labels": r"needs labels, and the observations have none; write .*\(labels=\.\.\.\)",
        "dense_logits": r"needs the dense model's logits, .*data\._replace\(dense_logits=",
    }[missing]
    with pytest.raises(UserError, match=message):
        make()((), observations)


def test_constraint_values_of_one_number():
    values = constraint_values(jnp.float32(0.5), equality=True)
    np.testing.assert_array_equal(values.violation, [0.5])
    np.testing.assert_array_equal(values.proxy, [0.5])
    np.testing.assert_array_equal([values.violation_mask, values.proxy_mask], [[True]] * 2)
    assert values.equality is True and values.tolerance == 0


def test_constraint_values_keep_their_arguments():
    masks = jnp.array([True, False]), jnp.array([False, True])
    values = constraint_values(
        jnp.ones(2),
        jnp.zeros(2),
        violation_mask=masks[0],
        proxy_mask=masks[1],
        tolerance=0.1,
        overall=jnp.ones(2),
        deviation=2.0,
    )
    np.testing.assert_array_equal(values.proxy, [0, 0])
    np.testing.assert_array_equal([values.violation_mask, values.proxy_mask], masks)
    assert values.tolerance == 0.1 and values.deviation == 2.0 and not values.equality


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"proxy": np.zeros(3)}, r"violation and proxy .* got \(2,\) and \(3,\)"),
        ({"proxy_mask": np.ones(1, bool)}, r"violation and proxy_mask .* got \(2,\) and \(1,\)"),
        ({"violation_mask": np.ones((2, 1), bool)}, r"violation_mask .*\(2,\) and \(2, 1\)"),
        ({"violation": np.zeros((2, 2))}, r"one entry per constraint, shape \(constraint,\); got"),
    ],
)
def test_shapes_of_constraint_values(given, text):
    with pytest.raises(UserError, match=text):
        constraint_values(**({"violation": np.zeros(len(LOSS) // 3)} | given))
