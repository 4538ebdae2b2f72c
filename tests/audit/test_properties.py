"""What must not change the audit, and what must change it in a known way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bap_jax.audit import assessment, counts
from tests.audit.samples import as_mapping, make_samples

SETTINGS = {"tolerance": 0.03, "min_group_size": 5, "permutations": 50}
seeds = st.integers(0, 10_000)
few = settings(max_examples=25, deadline=None)


def audit(dense, sparse, names, **changed):
    return assessment.compare(dense, sparse, names, **{**SETTINGS, **changed})


def by_name(result):
    return {row.name: row for row in result.groups}


@given(seeds, st.floats(0, 0.6))
@few
def test_swapping_the_models_negates_gaps_and_mirrors_limits(seed, flip_rate):
    dense, sparse, names = make_samples(300, flip_rate=flip_rate, seed=seed)
    one, two = audit(dense, sparse, names), audit(sparse, dense, names)
    for name, row in by_name(one).items():
        other = by_name(two)[name]
        assert other.excess_gap == pytest.approx(-row.excess_gap, abs=1e-12)
        assert (other.lower, other.upper) == pytest.approx((-row.upper, -row.lower), abs=1e-12)
        assert (other.harmed, other.helped) == (row.helped, row.harmed)
        assert other.shrunken == pytest.approx(-row.shrunken, abs=1e-12)
    assert two.overall.gap == -one.overall.gap
    assert two.spread == pytest.approx(one.spread, abs=1e-12)


@given(seeds)
@few
def test_the_order_of_samples_and_the_names_of_groups_change_nothing(seed):
    dense, sparse, names = make_samples(300, "abcd", seed=seed)
    order = np.random.default_rng(seed).permutation(300)
    renaming = dict(zip("abcd", "zyxw", strict=True))
    renamed = np.array([renaming[name] for name in names])[order]
    expected = as_mapping(audit(dense, sparse, names))
    found = as_mapping(audit(dense[order], sparse[order], renamed))
    back = {new: old for old, new in renaming.items()}
    for row in found["groups"]:
        row["name"] = back[row["name"]]
    found["groups"].sort(key=lambda row: row["name"])
    # Of two groups that are alike, either may be named.
    alike = {row["name"]: (row["n"], row["harmed"], row["helped"]) for row in expected["groups"]}
    assert alike[back[found.pop("deciding_group")]] == alike[expected.pop("deciding_group")]
    for key in expected:
        if key not in ("groups", "chance", "bayes_max"):
            assert found[key] == pytest.approx(expected[key], abs=1e-12), key
    assert found["chance"] == pytest.approx(expected["chance"], abs=1e-12)
    assert found["bayes_max"] == pytest.approx(expected["bayes_max"], abs=1e-9)
    for row, other in zip(found["groups"], expected["groups"], strict=True):
        assert row == pytest.approx(other, abs=1e-9)


@given(seeds, st.integers(2, 4))
@few
def test_more_of_the_same_samples_narrow_the_limits(seed, times):
    dense, sparse, names = make_samples(200, seed=seed)
    once = by_name(audit(dense, sparse, names))
    more = by_name(audit(*(np.tile(column, times) for column in (dense, sparse, names))))
    for name, row in once.items():
        assert more[name].excess_gap == pytest.approx(row.excess_gap, abs=1e-12)
        assert row.lower < more[name].lower < more[name].upper < row.upper


@given(seeds, st.sampled_from([0.0, 0.1, 1.0]))
@few
def test_excess_gaps_weighted_by_samples_sum_to_0(seed, flip_rate):
    result = audit(*make_samples(200, "abcdefg", flip_rate, seed))
    assert sum(row.n * row.excess_gap for row in result.groups) == pytest.approx(0, abs=1e-10)


@given(seeds, st.integers(20, 280))
@few
def test_merged_tables_are_the_table_of_all_samples(seed, where):
    dense, sparse, race = make_samples(300, "abcd", seed=seed)
    age = np.random.default_rng(seed).choice(["old", "young", ""], 300)
    columns = (dense, sparse, race, age)

    def counted(part):
        d, s, r, a = (column[part] for column in columns)
        return counts.of_samples(d, s, {"race": r, "age": a}, "race*age+race")

    merged = counts.merge(counted(slice(where)), counted(slice(where, None)))
    whole = counted(slice(None))
    assert merged.missing == whole.missing
    expected = assessment.from_counts(whole, **SETTINGS)
    found = assessment.from_counts(merged, **SETTINGS)
    for one, two in zip(as_mapping(found)["groups"], as_mapping(expected)["groups"], strict=True):
        assert one == pytest.approx(two, abs=1e-12)
    assert (found.verdict, found.overall) == (expected.verdict, expected.overall)
    assert sorted(found.not_assessed) == sorted(expected.not_assessed)


@given(seeds, st.floats(0, 0.2), st.floats(0, 0.2))
@few
def test_verdicts_follow_from_the_limits(seed, tolerance, harm):
    samples = make_samples(600, harm={"a": harm}, seed=seed)
    result = audit(*samples, tolerance=tolerance)
    assert (result.verdict == "satisfied") == (result.certifiable_tolerance <= tolerance)
    assert (result.verdict == "violated") == (result.lower > tolerance)
    assert (result.verdict == "violated") == ("violated" in {row.verdict for row in result.groups})
    assert result.lower <= result.max_excess_gap <= result.certifiable_tolerance
    for row in result.groups:
        assert row.lower <= row.excess_gap <= row.upper
        assert (row.verdict == "satisfied") == (row.upper <= tolerance)
        assert row.excess_gap > tolerance or row.verdict != "violated"


@given(seeds)
@few
def test_a_larger_tolerance_is_never_worse(seed):
    samples = make_samples(400, harm={"b": 0.1}, seed=seed)
    order = ["violated", "undecided", "satisfied"]
    verdicts = [audit(*samples, tolerance=t).verdict for t in (0, 0.03, 0.1, 0.5)]
    assert verdicts == sorted(verdicts, key=order.index)
