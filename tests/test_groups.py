"""Names and ids of groups: one attribute, intersections and margins."""

import itertools

import numpy as np
import pytest

from bap_jax import data, groups
from bap_jax.errors import UserError

SEX = groups.encode(["m", "f", "f", "m"], ("f", "m"))
AGE = groups.encode(["old", "new", "mid", "new"], ("new", "mid", "old"))


@pytest.mark.parametrize(
    ("values", "names", "ids"),
    [
        (["b", "a", "b"], ("a", "b"), [1, 0, 1]),
        ([10, 9, 10], ("9", "10"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (["only", "only"], ("only",), [0, 0]),
    ],
)
def test_without_names_groups_are_the_sorted_distinct_values(values, names, ids):
    found = groups.encode(values)
    assert found.names == names
    assert found.ids.dtype == np.int32
    np.testing.assert_array_equal(found.ids, np.array(ids)[:, None])


@pytest.mark.parametrize(
    ("values", "known", "names", "ids"),
    [
        (["b", "a", "b"], ["b", "c", "a"], ("b", "c", "a"), [0, 2, 0]),
        ([3, 1, 1], [1, 2, 3], ("1", "2", "3"), [2, 0, 0]),
        (np.array([True, False]), [True, False], ("True", "False"), [0, 1]),
    ],
)
def test_known_names_fix_the_order_of_the_ids(values, known, names, ids):
    found = groups.encode(values, known)
    assert found.names == names
    assert found.ids.dtype == np.int32
    np.testing.assert_array_equal(found.ids, np.array(ids)[:, None])


def test_names_give_back_the_values():
    values = np.random.default_rng(0).choice(["x", "y", "zz"], 30)
    found = groups.encode(values)
    np.testing.assert_array_equal(np.array(found.names)[found.ids[:, 0]], values)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown group name 'q'; known names: b, a\.$"):
        groups.encode(["a", "r", "q", "b"], ("b", "a"))


@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_values_are_one_a_sample(shape):
    with pytest.raises(
        UserError, match=r"one group name for each sample, shape \(sample,\); got shape \(.*\)\. "
    ):
        groups.encode(np.zeros(shape))


def test_intersections_are_numbered_in_c_order():
    found = groups.intersections([SEX, AGE])
    assert found.names == ("f*new", "f*mid", "f*old", "m*new", "m*mid", "m*old")
    np.testing.assert_array_equal(found.ids, [[3 + 2], [0 + 0], [0 + 1], [3 + 0]])
    assert found.ids.dtype == np.int32


def test_intersections_of_three_name_their_groups():
    rng = np.random.default_rng(1)
    alphabets = ("ab", "cde", "fg")
    parts = [groups.encode(rng.choice(list(names), 40), names) for names in alphabets]
    found = groups.intersections(parts)
    expected = ["*".join(part.names[part.ids[i, 0]] for part in parts) for i in range(40)]
    assert [found.names[i] for i in found.ids[:, 0]] == expected
    assert found.names == tuple("*".join(names) for names in itertools.product(*alphabets))


@pytest.mark.parametrize("join", [groups.intersections, groups.margins])
def test_joining_one_attribute_changes_nothing(join):
    found = join([AGE])
    assert found.names == AGE.names
    np.testing.assert_array_equal(found.ids, AGE.ids)


def test_margins_follow_on():
    third = groups.encode(["u", "v", "v", "u"])
    found = groups.margins([SEX, AGE, third])
    assert found.names == ("f", "m", "new", "mid", "old", "u", "v")
    expected = [[1, 2 + 2, 5 + 0], [0, 2 + 0, 5 + 1], [0, 2 + 1, 5 + 1], [1, 2 + 0, 5 + 0]]
    np.testing.assert_array_equal(found.ids, expected)
    assert found.ids.dtype == np.int32


def test_select_finds_by_name():
    assert groups.select({"sex": SEX, "age": AGE}, "age") is AGE


@pytest.mark.parametrize(
    "find",
    [
        groups.select,
        lambda attributes, name: data.Source(np.zeros(4), attributes, "sex").grouped_by(name),
    ],
    ids=["select", "grouped_by"],
)
def test_an_unknown_attribute_lists_the_known_ones(find):
    message = "unknown group attribute 'race'; known attributes: age, sex"
    with pytest.raises(UserError, match=message):
        find({"sex": SEX, "age": AGE}, "race")


@pytest.mark.parametrize(
    ("grouping", "expected"),
    [
        (AGE, [2, 1, 1]),
        (groups.intersections([SEX, AGE]), [1, 1, 0, 1, 0, 1]),
        (groups.margins([SEX, AGE]), [2, 2, 2, 1, 1]),
        (groups.Grouping(np.zeros((3, 1), np.int32), ("seen", "empty")), [3, 0]),
    ],
)
def test_counts(grouping, expected):
    counts = groups.group_counts(grouping.ids, len(grouping.names))
    np.testing.assert_array_equal(counts, expected)
    assert counts.dtype == np.int64


def test_names_given_twice_are_one_group():
    found = groups.encode(["b", "a"], ("a", "a", "b"))
    assert found.names == ("a", "b")
    np.testing.assert_array_equal(found.ids, [[1], [0]])


def test_margins_cannot_be_intersected():
    one = groups.encode(["a", "b"])
    with pytest.raises(UserError, match=r"one attribute each; got one of 2 \(a, b, a, b\)"):
        groups.intersections([groups.margins([one, one]), one])


COLOUR = groups.encode(["red", "red", "blue", "blue"])
SIZE = groups.encode(["small", "large", "small", "small"])
BOTH = {"colour": COLOUR, "size": SIZE}


def test_a_product_leaves_out_what_nobody_is():
    found = groups.grouping(BOTH, "colour*size")
    assert found.names == ("blue*small", "red*large", "red*small")
    np.testing.assert_array_equal(found.ids[:, 0], [2, 1, 0, 0])


def test_a_sum_keeps_each_attribute_on_its_own():
    found = groups.grouping(BOTH, "colour+size")
    assert found.names == ("blue", "red", "large", "small")
    np.testing.assert_array_equal(found.ids, [[1, 3], [1, 2], [0, 3], [0, 3]])


def test_products_bind_closer_than_sums():
    found = groups.grouping(BOTH, "colour * size + size")
    assert found.names == ("blue*small", "red*large", "red*small", "large", "small")
    np.testing.assert_array_equal(found.ids, [[2, 4], [1, 3], [0, 4], [0, 4]])


def test_names_that_two_attributes_share_are_told_apart():
    attributes = {"hat": groups.encode([0, 1, 1]), "tie": groups.encode([1, 0, 2])}
    found = groups.grouping(attributes, "hat + tie")
    assert found.names == ("hat=0", "hat=1", "tie=0", "tie=1", "tie=2")
    np.testing.assert_array_equal(found.ids, [[0, 3], [1, 2], [1, 4]])


def test_an_unknown_label_lists_the_known_attributes():
    with pytest.raises(UserError, match="unknown target 'race'; known attributes: colour, size"):
        data.Source(np.zeros(4), BOTH, "size").labelled("race")


def test_one_attribute_is_itself():
    found = groups.grouping(BOTH, "colour")
    assert found.names == COLOUR.names
    np.testing.assert_array_equal(found.ids, COLOUR.ids)


def test_groups_that_no_sample_has_are_left_out():
    gaps = groups.Grouping(np.array([[4], [1], [4]]), tuple("abcde"))
    found = groups.grouping({"label": gaps}, "label")
    assert found.names == ("b", "e") and found.ids.ravel().tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("colour,size", r"write colour\*size or colour\+size"),
        (
            "colour*",
            r"group_by='colour\*': the name of an attribute is missing; known .*: colour, size",
        ),
        ("", "group_by='': the name of an attribute is missing"),
        ("colour*size*colour", r"group_by='colour\*size\*colour' combines colour with itself"),
        ("colour*shape", "unknown group attribute 'shape'; known attributes: colour, size"),
    ],
)
def test_mistakes_in_expressions(expression, text):
    with pytest.raises(UserError, match=text):
        groups.grouping(BOTH, expression)
