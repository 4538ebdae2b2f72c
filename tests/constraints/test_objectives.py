"""Objectives by hand, and the mean weight of a sample."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax.constraints import mean_loss, performance_weighted_loss, reweighted_loss
from bap_jax.constraints.objectives import REWEIGHTINGS
from bap_jax.errors import UserError
from tests.constraints.samples import floats, observe, reference

EIGHT_AND_TWO = reference((0.9, 0.8), (0.2, 0.4), (8, 2))
WEIGHTS = {
    "inverse": (5 / 8, 5 / 2),
    "inverse_sqrt": np.array([8**-0.5, 2**-0.5]) / (0.8 * 8**-0.5 + 0.2 * 2**-0.5),
    # β = ½: ½ / (1 − ½⁸) and ½ / (1 − ½²)
    "class_balanced": np.array([128 / 255, 2 / 3]) / (0.8 * 128 / 255 + 0.2 * 2 / 3),
}


def weights(objective, batch):
    """`(batch,)` weight of each sample's loss."""
    gradient = jax.grad(lambda loss: objective(batch._replace(loss=loss)))(batch.loss)
    return gradient * batch.weight.sum()


def test_mean_loss():
    assert mean_loss(observe()) == pytest.approx(0.52)
    np.testing.assert_allclose(weights(mean_loss, observe()), [1, 1, 1, 1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("form", REWEIGHTINGS)
def test_reweighted_loss(form):
    objective = reweighted_loss(EIGHT_AND_TWO, form, beta=0.5)
    batch = observe((0, 1, 1, 0), loss=(1, 2, 3, 4), correct=(0,) * 4, weight=(1, 1, 0, 1))
    large, small = WEIGHTS[form]
    np.testing.assert_allclose(weights(objective, batch), [large, small, 0, large], rtol=1e-5)
    assert objective(batch) == pytest.approx((large * 1 + small * 2 + large * 4) / 3, rel=1e-5)


@pytest.mark.parametrize("form", REWEIGHTINGS)
@pytest.mark.parametrize("count", [(8, 2), (1, 5), (3, 3), (997, 1), (4, 0)])
def test_weights_have_mean_one_over_the_training_split(form, count):
    ids = np.arange(2).repeat(count)
    ones = np.ones(len(ids))
    batch = observe(ids, loss=ones, correct=ones, weight=ones)
    objective = reweighted_loss(reference((0.9, 0.8), (0.2, 0.4), count), form)
    assert objective(batch) == pytest.approx(1, rel=1e-4)
    found = weights(objective, batch)
    if form == "inverse":  # every group that has samples has the same share
        share = np.bincount(ids, found, 2) / len(ids)
        np.testing.assert_allclose(
            share[np.array(count) > 0], 1 / np.count_nonzero(count), rtol=1e-4
        )


def test_class_balanced_lies_between_no_and_full_reweighting():
    batch = observe((0, 1), loss=(1, 1), correct=(0, 0), weight=(1, 1))
    found = [
        weights(reweighted_loss(EIGHT_AND_TWO, "class_balanced", beta), batch)
        for beta in (0.0, 0.5, 0.9999)
    ]
    np.testing.assert_allclose(found[0], [1, 1], rtol=1e-6)
    assert found[0][1] < found[1][1] < found[2][1]
    np.testing.assert_allclose(found[2], WEIGHTS["inverse"], rtol=1e-2)


def test_a_sample_of_several_groups_gets_their_mean_weight():
    """Groups 0 and 1 are even, 2 and 3 are not."""
    dense = reference((0.5,) * 4, (0.0,) * 4, (4, 4, 6, 2))
    batch = observe(((0, 2), (1, 3)), loss=(1, 1), correct=(0, 0), weight=(1, 1))
    raw = 1 / np.array([4, 4, 6, 2])
    mean = raw @ np.array([4, 4, 6, 2]) / 16
    expected = [(raw[0] + raw[2]) / 2 / mean, (raw[1] + raw[3]) / 2 / mean]
    np.testing.assert_allclose(weights(reweighted_loss(dense, "inverse"), batch), expected, 1e-5)


@pytest.mark.parametrize("foreign", [2, 7, -1, -2])
def test_a_sample_of_no_group_has_weight_one(foreign):
    batch = observe((0, foreign), loss=(1, 1), correct=(0, 0), weight=(1, 1))
    found = weights(reweighted_loss(EIGHT_AND_TWO, "inverse"), batch)
    np.testing.assert_allclose(found, [5 / 8, 1], rtol=1e-5)


def test_unknown_form():
    known = "known: inverse, inverse_sqrt, class_balanced"
    with pytest.raises(UserError, match=f"unknown reweighting 'cubic'; {known}"):
        reweighted_loss(EIGHT_AND_TWO, "cubic")


@pytest.mark.parametrize(
    ("floor", "gamma", "expected"),
    [
        (0.1, 2.0, (0.1 + 0.9 * 0.01, 0.1 + 0.9 * 0.25, 1.0)),
        (0.0, 1.0, (0.1, 0.5, 1.0)),
        (0.3, 0.0, (1.0, 1.0, 1.0)),
        (1.0, 2.0, (1.0, 1.0, 1.0)),
    ],
)
def test_performance_weighted_loss(floor, gamma, expected):
    """The dense model gives the label .9, .5 and nothing; the last sample is padding."""
    probability = np.array([[0.9, 0.1], [0.5, 0.5], [1e-30, 1], [0.5, 0.5]])
    batch = observe(
        (0, 0, 1, 1),
        loss=(1, 2, 3, 9),
        correct=(1, 1, 0, 0),
        weight=(1, 1, 1, 0),
        labels=jnp.zeros(4, jnp.int32),
        dense_logits=floats(np.log(probability)),
    )
    objective = performance_weighted_loss(floor, gamma)
    value = np.array(expected) @ [1, 2, 3] / np.sum(expected)
    assert objective(batch) == pytest.approx(value, rel=1e-5)


def test_a_dense_model_that_is_sure_of_everything_gives_zero():
    batch = observe(
        (0, 0),
        loss=(1, 2),
        correct=(1, 1),
        weight=(1, 1),
        labels=jnp.zeros(2, jnp.int32),
        dense_logits=floats([[1e4, 0], [1e4, 0]]),
    )
    assert performance_weighted_loss(0.0, 2.0)(batch) == 0
    assert performance_weighted_loss(0.1, 2.0)(batch) == pytest.approx(1.5)
