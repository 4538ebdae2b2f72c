"""The whole audit on ordinary and on odd input."""

import json

import numpy as np
import pandas as pd
import pytest

from bap_jax.audit import counts, tango
from bap_jax.audit.assessment import compare, from_counts
from bap_jax.errors import UserError
from tests.audit.samples import make_samples

DENSE, SPARSE, NAMES = make_samples(600, harm={"c": 0.3}, seed=1)


def test_a_group_that_is_harmed_is_found():
    result = compare(DENSE, SPARSE, NAMES, tolerance=0.05)
    assert result.verdict == "violated"
    assert result.deciding_group == result.groups[0].name == "c"
    assert [row.verdict for row in result.groups] == ["violated", "satisfied", "satisfied"]
    assert result.lower > 0.05
    assert result.chance.p_value < 0.001 and result.chance.expected < result.max_excess_gap / 2
    assert result.bayes_max.lower < result.bayes_max.mean < result.bayes_max.upper
    gaps = [row.excess_gap for row in result.groups]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] == result.max_excess_gap


def test_counts_and_accuracies_are_those_of_the_samples():
    result = compare(DENSE, SPARSE, NAMES, tolerance=0.05)
    for row in result.groups:
        own = row.name == NAMES
        dense, sparse = DENSE[own], SPARSE[own]
        assert (row.n, row.dense_accuracy, row.sparse_accuracy) == pytest.approx(
            (own.sum(), dense.mean(), sparse.mean())
        )
        assert (row.harmed, row.helped) == ((dense & ~sparse).sum(), (sparse & ~dense).sum())
        assert row.gap == pytest.approx(dense.mean() - sparse.mean())
        assert row.excess_gap == pytest.approx(row.gap - (DENSE.mean() - SPARSE.mean()))
    overall = result.overall
    assert overall.n == 600
    assert overall.flip_rate == pytest.approx((DENSE != SPARSE).mean())
    limits = (tango.lower_limit, tango.upper_limit)
    expected = [float(limit(overall.harmed, overall.helped, 600, 0.05)) for limit in limits]
    assert (overall.lower, overall.upper) == pytest.approx(expected)


def test_it_is_json():
    result = compare(DENSE, SPARSE, NAMES, tolerance=0.05, permutations=100)
    parsed = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert parsed["chance"]["permutations"] == 100
    assert set(parsed["chance"]) == {
        *("expected", "p_value", "permutations", "quantile_5", "quantile_50", "quantile_95")
    }
    assert parsed["groups"][0]["samples_needed"] == result.groups[0].samples_needed
    assert parsed["verdict"] == "violated"


def test_counts_alone_give_no_accuracy():
    table = counts.of_groups([100, 100], [5, 3], [2, 2], names=["a", "b"])
    result = from_counts(table, tolerance=0.05, permutations=10).to_dict()
    assert result["overall"]["dense_accuracy"] is result["groups"][0]["sparse_accuracy"] is None
    assert result["overall"]["gap"] == 0.02


@pytest.mark.parametrize("kind", [bool, np.int8, float, object, "list", "pandas"])
def test_right_and_wrong_are_bools_or_0_and_1(kind):
    convert = {"list": list, "pandas": lambda array: pd.Series(array, dtype="boolean")}.get(
        kind, lambda array: array.astype(kind)
    )
    found = compare(convert(DENSE), convert(SPARSE), NAMES, tolerance=0.05, permutations=10)
    expected = compare(DENSE, SPARSE, NAMES, tolerance=0.05, permutations=10)
    assert found.groups == expected.groups


# Several attributes


def several(**changed):
    sex = np.where(np.arange(600) % 3 == 0, "f", "m")
    return {"race": NAMES, "sex": sex, **changed}


def test_every_attribute_is_a_partition():
    result = compare(DENSE, SPARSE, several(), tolerance=0.05)
    assert {(row.attribute, row.name) for row in result.groups} == {
        *(("race", "a"), ("race", "b"), ("race", "c"), ("sex", "f"), ("sex", "m"))
    }
    alone = compare(DENSE, SPARSE, NAMES, tolerance=0.05)
    for row in alone.groups:
        other = next(other for other in result.groups if other.name == row.name)
        assert (other.lower, other.upper, other.n) == (row.lower, row.upper, row.n)
    # Two more groups: the simultaneous limit is at another level.
    assert result.lower < alone.lower


def test_group_by_chooses_partitions():
    def partitions(group_by):
        result = compare(DENSE, SPARSE, several(), tolerance=0.05, group_by=group_by)
        return {row.attribute: row.name for row in result.groups}, result.missing

    assert set(partitions("race")[0]) == {"race"}
    assert partitions("race * sex")[0].keys() == {"race * sex"}
    assert partitions("race*sex")[0]["race*sex"] in {f"{r}*{s}" for r in "abc" for s in "fm"}
    assert set(partitions("race*sex + sex")[0]) == {"race*sex", "sex"}
    assert partitions("sex")[1] == {"sex": 0}


def test_group_by_needs_known_attributes():
    for group_by, expected in (
        ("race*age", "unknown group attribute 'age'; known attributes: race, sex"),
        ("race,sex", "join attributes by"),
        ("race*", "the name of an attribute is missing"),
    ):
        with pytest.raises(UserError, match=expected):
            compare(DENSE, SPARSE, several(), tolerance=0.05, group_by=group_by)
    with pytest.raises(UserError, match="needs groups by name; pass groups as a dict"):
        compare(DENSE, SPARSE, NAMES, tolerance=0.05, group_by="race")
    with pytest.raises(UserError, match="empty dict"):
        compare(DENSE, SPARSE, {}, tolerance=0.05)


def test_a_name_of_two_attributes_is_told_apart():
    result = compare(DENSE, SPARSE, several(sex=NAMES), tolerance=0.05)
    assert result.deciding_group == "race=c"


def test_samples_without_a_value_are_a_group():
    sex = np.array(["f", "m", None], object)[np.arange(600) % 3]
    result = compare(DENSE, SPARSE, several(sex=sex), tolerance=0.05)
    assert result.missing == {"race": 0, "sex": 200}
    assert {row.name: row.n for row in result.groups}["missing"] == 200
    both = compare(DENSE, SPARSE, several(sex=sex), tolerance=0.05, group_by="race*sex")
    assert both.missing == {"race": 0, "sex": 200}
    assert "a*missing" in {row.name for row in both.groups}


def test_attributes_of_many_groups_make_only_the_combinations_that_occur():
    ids = np.arange(600)
    columns = {"first": ids, "second": ids + 1, "third": ids // 300}
    settings = {"tolerance": 0.05, "group_by": "first*second*third+third", "permutations": 10}
    result = compare(DENSE, SPARSE, columns, min_group_size=1, **settings)
    assert len(result.groups) == 602
    assert {row.n for row in result.groups if row.attribute != "third"} == {1}
    assert {row.name for row in result.groups} >= {"0*1*0", "599*600*1", "0", "1"}


# Odd groups


def test_small_groups_are_named_and_left_out():
    names = NAMES.astype(object)
    names[:20] = "rare"
    result = compare(DENSE, SPARSE, names, tolerance=0.05)
    assert result.not_assessed == (("", "rare", 20),)
    assert "rare" not in {row.name for row in result.groups}
    # The others are compared with each other alone.
    kept = slice(20, None)
    alone = compare(DENSE[kept], SPARSE[kept], NAMES[kept], tolerance=0.05)
    for row, other in zip(result.groups, alone.groups, strict=True):
        assert (row.excess_gap, row.upper) == pytest.approx((other.excess_gap, other.upper))
    np.testing.assert_array_equal(result.chance.maxima, alone.chance.maxima)
    assert result.overall.n == 600


def test_a_partition_whose_groups_are_all_large_enough_is_not_changed_by_another():
    rare = np.where(np.arange(600) < 20, "rare", NAMES)
    result = compare(DENSE, SPARSE, {"all": NAMES, "some": rare}, tolerance=0.05)
    assert result.not_assessed == (("some", "rare", 20),)
    sizes = {key: sum(r.n for r in result.groups if r.attribute == key) for key in ("all", "some")}
    assert sizes == {"all": 600, "some": 580}


def test_a_group_of_one_sample():
    names = np.array(["other"] * 599 + ["one"])
    result = compare(DENSE, SPARSE, names, tolerance=0.05, min_group_size=1)
    one = next(row for row in result.groups if row.name == "one")
    assert one.n == 1 and one.upper - one.lower > 0.7
    assert result.verdict == "undecided" and result.deciding_group == "one"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["same"] * 600, r"got 1 of 1 groups \(same\)"),
        (["other"] * 599 + ["one"], r"min_group_size=30 samples or more; got 1 of 2 groups"),
        (np.arange(600), r"got 0 of 600 groups \(0, 1, 10, 100, 101 and 595 more\)"),
    ],
)
def test_without_two_groups_there_is_nothing_to_compare(names, expected):
    with pytest.raises(UserError, match=expected):
        compare(DENSE, SPARSE, names, tolerance=0.05)
    with pytest.raises(UserError, match="at least two groups of 'age' must have"):
        compare(DENSE, SPARSE, several(age=names), tolerance=0.05)


def test_identical_models_are_satisfied_only_with_enough_samples():
    def verdict(n):
        names, right = np.arange(2 * n) % 2, np.arange(2 * n) % 3 == 0
        result = compare(right, right, names, tolerance=0.01)
        assert result.overall.flip_rate == result.max_excess_gap == result.spread == 0
        assert result.bayes_max == (0, 0, 0)
        assert (result.chance.expected, result.chance.p_value) == (0, 1)
        return result

    z = tango.normal_quantile(0.05)
    few, many = verdict(100), verdict(1000)
    # No flips among n samples: the limit of either mean is z²/(n + z²), that of half of their
    # difference √2/2 of it.
    assert few.certifiable_tolerance == pytest.approx(np.sqrt(0.5) * z**2 / (100 + z**2))
    assert (few.verdict, many.verdict) == ("undecided", "satisfied")


def test_models_that_never_agree():
    names = np.arange(200) % 2
    worse = compare(names == 0, names == 1, names, tolerance=0.5)
    assert worse.verdict == "violated"
    assert [row.excess_gap for row in worse.groups] == [1, -1]
    assert worse.groups[0].upper == 1 and worse.groups[1].lower == -1


def test_ten_thousand_groups():
    random = np.random.default_rng(0)
    names = random.permutation(np.repeat(np.arange(10_000), 3))
    dense = random.random(30_000) < 0.8
    sparse = np.where(random.random(30_000) < 0.1, ~dense, dense)
    result = compare(dense, sparse, names, tolerance=0.1, min_group_size=3, permutations=20)
    assert len(result.groups) == 10_000 and result.verdict == "undecided"
    assert result.chance.p_value > 0.04


# Mistakes


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ([2, 0, 1, -1, 0.5, 3], r"got 2.0 in row 0, -1.0 in row 3, 0.5 in row 4 and 1 more"),
        ([1, float("nan"), 0], "got nan in row 1 "),
        ([1, None, 0], "got None in row 1 "),
        ([True, "True"], r"got True in row 0, True in row 1 "),
        (np.array([1, "1", True], object), "got 1 in row 1 "),
        (np.array(["1", "0"]), "got 1 in row 0, 0 in row 1 "),
        (pd.Series([True, None], dtype="boolean"), "got <NA> in row 1 "),
        (np.ma.masked_array([1, 0, 1], [False, False, True]), "in row 2 "),
        (np.zeros((3, 2)), r"shape \(sample,\); got shape \(3, 2\)"),
        ([], r"got shape \(0,\)"),
        (True, r"got shape \(\)"),
    ],
    ids=str,
)
def test_correctness_that_is_neither_0_nor_1_is_named(wrong, expected):
    for one, two, name in ((wrong, SPARSE, "dense_correct"), (DENSE, wrong, "sparse_correct")):
        with pytest.raises(UserError, match=f"{name} must hold True or False.*{expected}"):
            compare(one, two, NAMES, tolerance=0.05)


def test_lengths_must_agree():
    with pytest.raises(UserError, match="dense_correct: 600, sparse_correct: 599, groups: 600"):
        compare(DENSE, SPARSE[1:], NAMES, tolerance=0.05)
    with pytest.raises(UserError, match=r"groups\['race'\]: 600, groups\['sex'\]: 2"):
        compare(DENSE, SPARSE, several(sex=["f", "m"]), tolerance=0.05)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"alpha": 0}, r"alpha must be a one-sided level in \(0, 0.5\), such as 0.05; got 0"),
        ({"alpha": 1}, "alpha must be .*; got 1"),
        ({"alpha": float("nan")}, "alpha must be .*; got nan"),
        ({"tolerance": -0.01}, r"tolerance must be a fraction in \[0, 1\]; got -0.01"),
        ({"tolerance": 2}, "got 2. One percentage point is 0.01"),
        ({"min_group_size": 0}, "min_group_size must be at least 1; got 0"),
        ({"permutations": 0}, "permutations must be at least 1; got 0"),
        ({"permutations": 1.5}, "permutations must be a whole number; got 1.5"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"seed": "x"}, "seed must be a whole number; got 'x'"),
        ({"alpha": "x"}, "alpha must be a number; got 'x'"),
        ({"tolerance": None}, "tolerance must be a number; got None"),
        ({"min_group_size": "30"}, "min_group_size must be a number; got '30'"),
    ],
)
def test_a_number_outside_its_range_is_an_error(wrong, expected):
    with pytest.raises(UserError, match=expected):
        compare(DENSE, SPARSE, NAMES, **{"tolerance": 0.05, **wrong})


def test_a_tolerance_of_0_needs_no_number_of_samples():
    result = compare(DENSE, SPARSE, NAMES, tolerance=0)
    assert result.samples_needed is None and result.groups[0].samples_needed is None


def test_counts_must_be_possible():
    for columns, expected in (
        (([10, 10], [6, 0], [5, 0]), "group '0' has n=10, harmed=6, helped=5"),
        (([10, 10], [-1, 0], [5, 0]), "group '0' has n=10, harmed=-1"),
        (([10, 10], [1], [5, 0]), "one entry in every column"),
    ):
        with pytest.raises(UserError, match=expected):
            counts.of_groups(*columns)
    with pytest.raises(UserError, match="its own name"):
        counts.of_groups([10, 10], [0, 0], [0, 0], names=["a", "a"])


def test_tables_by_other_attributes_cannot_be_merged():
    race = counts.of_samples(DENSE, SPARSE, {"race": NAMES})
    sex = counts.of_samples(DENSE, SPARSE, {"sex": NAMES})
    with pytest.raises(UserError, match=r"counts by \['race'\] and by \['sex'\]"):
        counts.merge(race, sex)
    called_missing = counts.of_samples([1, 1], [1, 0], ["missing", None])
    without = counts.of_samples([1, 1], [1, 0], ["a", None])
    with pytest.raises(UserError, match="a group that is called 'missing'"):
        counts.merge(called_missing, without)
