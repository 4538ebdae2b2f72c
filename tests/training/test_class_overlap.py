"""How far groups coincide with classes: closed form, and who uses it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bap_jax import metrics, pipeline, training
from bap_jax.constraints import among, excess_accuracy_gap, worst_group_floor
from bap_jax.constraints.observations import Observations
from tests.training.tiny import tiny


def overlap(labels, *attributes, num_groups):
    ids = np.stack(attributes, axis=1).astype(np.int32)
    return training.class_overlap(np.array(labels), ids, num_groups)


def test_groups_that_are_classes():
    labels = [0, 0, 1, 2, 2, 2]
    np.testing.assert_allclose(overlap(labels, labels, num_groups=3), 1)


def test_a_group_of_whole_classes():
    np.testing.assert_allclose(overlap([0, 0, 1, 2], [0, 0, 0, 1], num_groups=2), 1)


def test_groups_that_do_not_depend_on_the_label():
    labels, ids = np.divmod(np.arange(12), 6)
    np.testing.assert_allclose(overlap(labels, np.minimum(ids, 2), num_groups=3), 0, atol=1e-12)


def test_groups_within_a_class():
    """Label gender, groups race × gender: of ten women two are of one race and eight of another."""
    labels, ids = [0] * 10 + [1] * 10, [0] * 2 + [1] * 8 + [2] * 10
    expected = [(0.2 - 0.1) / 0.9, (0.8 - 0.4) / 0.6, 1]
    np.testing.assert_allclose(overlap(labels, ids, num_groups=3), expected)


def test_a_group_of_two_classes_is_weighted_by_where_its_samples_are():
    """Three of its four samples in a class of six, one alone in its own."""
    share = 3 / 4 * 3 / 6 + 1 / 4 * 1 / 1
    labels, ids = [0] * 6 + [1], [0, 0, 0, 1, 1, 1, 0]
    found = overlap(labels, ids, num_groups=2)[0]
    np.testing.assert_allclose(found, (share - 4 / 7) / (1 - 4 / 7))


def test_attributes_do_not_mix():
    labels = [0, 1, 0, 1]
    found = overlap(labels, [0, 1, 0, 1], [2, 2, 3, 3], num_groups=4)
    np.testing.assert_allclose(found, [1, 1, 0, 0], atol=1e-12)


def test_samples_without_a_group_and_groups_without_samples():
    """Groups 1 and 2 have none; group 0 is half of class 7 and a third of class 0."""
    found = overlap([0, 0, 0, 7, 7, 7], [0, -1, 5, 0, -1, 9], num_groups=3)
    np.testing.assert_allclose(found, [(1 / 3 - 1 / 3) / (2 / 3), 1, 1], atol=1e-12)


def test_a_group_of_all_samples():
    np.testing.assert_array_equal(overlap([0, 1, 1], [0, 0, 0], num_groups=1), 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1))
def test_it_lies_between_0_and_1(samples):
    labels, ids = np.array(samples).T
    found = overlap(labels, ids, num_groups=5)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("make", [excess_accuracy_gap, worst_group_floor])
def test_constraints_hand_it_on(make):
    case, ones = tiny(), jnp.ones(30)
    reference = case.reference._replace(class_overlap=np.array([0.2, 0.5, 1.0]))
    seen = Observations(ones, ones, case.train.group_ids, weight=ones)
    for constraint, expected in (
        (make(reference, 0.1), [0.2, 0.5, 1.0]),
        (among(reference, [2, 0], lambda part: make(part, 0.1)), [1.0, 0.2]),
        (make(case.reference, 0.1), [1.0, 1.0, 1.0]),
    ):
        values, _ = constraint.evaluate(constraint.init(), seen)
        np.testing.assert_allclose(values.directness, expected)


def test_runs_compare_their_groups_with_the_classes_of_a_classifier(digits_splits, small_dense):
    halves = digits_splits._replace(
        train=digits_splits.train._replace(
            group_ids=np.arange(digits_splits.train.size, dtype=np.int32)[:, None] % 2
        )
    )
    context = pipeline.make_context(*small_dense, digits_splits)
    np.testing.assert_allclose(context.reference.class_overlap, 1)
    found = pipeline.make_context(*small_dense, halves).reference.class_overlap
    assert found.shape == (10,) and (found[:2] < 0.05).all() and (found[2:] == 1).all()
    own = dataclasses.replace(metrics.CLASSIFICATION, has_classes=False)
    context = pipeline.make_context(*small_dense, halves, criterion=own)
    np.testing.assert_array_equal(context.reference.class_overlap, found)


@pytest.mark.parametrize(("values", "are_classes"), [(2, True), (10, False)])
def test_floats_are_classes_where_there_are_two(values, are_classes, digits_splits, small_dense):
    """As of a network with a single logit; more of them may be ages."""
    train = digits_splits.train
    halves = np.arange(train.size, dtype=np.int32)[:, None] % 2
    real = train._replace(labels=np.float32(train.labels % values), group_ids=halves)
    own = metrics.Criterion(lambda logits, _: logits[:, 0] ** 2, lambda logits, _: logits[:, 0] > 0)
    splits = digits_splits._replace(train=real, num_classes=None)
    context = pipeline.make_context(*small_dense, splits, criterion=own)
    found = np.broadcast_to(context.reference.class_overlap, (10,))[:2]
    assert (found < 0.05).all() if are_classes else (found == 1).all()
