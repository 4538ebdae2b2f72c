"""What the report of a split says of its audit: the audit's own numbers, and splits without one."""

import json

import numpy as np
import pytest

from bap_jax.audit import counts as audit_counts
from bap_jax.audit.assessment import compare
from bap_jax.reporting.predictions import save_predictions, split_predictions
from bap_jax.reporting.report import split_report
from bap_jax.reporting.verdict_text import verdict_sentence
from bap_jax.reporting.verdicts import NOT_ASSESSED, add_verdict, counts_of
from bap_jax.types import Dataset
from tests.reporting.test_gaps import split_means

ROW = ("harmed", "helped", "lower", "upper", "shrunken", "verdict")


def predictions_of(dense, sparse, columns):
    """A network is right where it predicts the only label, 0."""
    group = np.stack(columns, axis=1).astype(np.int32)
    split = Dataset(np.zeros(len(dense)), np.zeros(len(dense), np.int32), group)
    return split_predictions(np.arange(len(dense)), split, 1 - dense, 1 - sparse)


def random_split(sizes, seed=0, flips=0.1):
    """Bits of two models and shuffled ids of groups of these sizes."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    dense = (rng.random(len(ids)) < 0.9).astype(int)
    return dense, np.where(rng.random(len(ids)) < flips, 1 - dense, dense), ids


def reported(dense, sparse, columns, names, attributes, tolerance=0.01):
    predictions = predictions_of(dense, sparse, columns)
    report = {"groups": [{"name": name} for name in names]}
    return add_verdict(report, predictions, attributes, tolerance)


def assert_rows(groups, found, attribute=None):
    by_name = {row.name: row for row in found.groups if attribute in (None, row.attribute)}
    for group in groups:
        assert {key: group[key] for key in ROW} == {
            key: getattr(by_name[group["name"]], key) for key in ROW
        }


def test_the_report_holds_the_numbers_of_the_audit():
    dense, sparse, ids = random_split((50, 80, 200))
    found = compare(
        dense, sparse, np.array(["x", "y", "z"])[ids], tolerance=0.02, permutations=2000
    )
    report = reported(dense, sparse, [ids], "xyz", [""] * 3, tolerance=0.02)
    assert_rows(report["groups"], found)
    assert report["verdict"] == found.verdict and report["why_not_assessed"] is None
    assert report["flip_rate"] == found.overall.flip_rate
    assert (report["harmed"], report["helped"]) == (found.overall.harmed, found.overall.helped)
    for key in ("lower", "certifiable_tolerance", "deciding_group", "samples_needed", "spread"):
        assert report[key] == getattr(found, key)
    assert report["expected_by_chance"] == found.chance.expected
    assert report["p_value"] == found.chance.p_value
    assert report["assessed_max_excess_gap"] == found.max_excess_gap
    assert report["bayes_max"] == found.bayes_max._asdict()


def test_each_attribute_is_a_partition():
    dense, sparse, race = random_split((60, 90, 150))
    gender = np.random.default_rng(1).integers(0, 2, 300)
    named = {"race": np.array(["a", "b", "c"])[race], "gender": np.array(["a", "f"])[gender]}
    found = compare(dense, sparse, named, tolerance=0.05, permutations=2000)
    attributes = ["race"] * 3 + ["gender"] * 2
    report = reported(dense, sparse, [race, 3 + gender], "abcaf", attributes, tolerance=0.05)
    assert_rows(report["groups"][:3], found, "race")
    assert_rows(report["groups"][3:], found, "gender")
    assert report["certifiable_tolerance"] == found.certifiable_tolerance
    assert report["p_value"] == found.chance.p_value
    assert report["flip_rate"] == np.mean(dense != sparse)


def test_a_name_of_two_attributes_has_a_sentence():
    """Splits that a user made may have such names; the rows of reports hold no attributes."""
    dense, sparse, race = random_split((40, 60, 500))
    gender = np.random.default_rng(1).integers(0, 2, 600)
    means = [split_means(bits.astype(bool), race, 3) for bits in (dense, sparse)]
    report = split_report(*means, "abc")
    report["groups"] += [dict(row) for row in report["groups"][:2]]
    predictions = predictions_of(dense, sparse, [race, 3 + gender])
    judged = add_verdict(report, predictions, ["race"] * 3 + ["gender"] * 2, 0.01)
    decides = judged["deciding_group"]
    assert decides in ("race=a", "race=b")
    sentence = verdict_sentence({"tolerance": 0.01, "splits": {"test": judged}}, "test")
    assert sentence.startswith(f"Undecided at ε = 1 point on 600 test samples: group {decides[-1]}")


def test_small_groups_are_not_assessed_but_counted():
    dense, sparse, ids = random_split((29, 30, 200))
    report = reported(dense, sparse, [ids], "xyz", [""] * 3)
    small, *others = report["groups"]
    inside = ids == 0
    assert small == {
        "name": "x",
        "harmed": np.sum(inside & (dense > sparse)),
        "helped": np.sum(inside & (dense < sparse)),
        "lower": None,
        "upper": None,
        "shrunken": None,
        "verdict": NOT_ASSESSED,
    }
    assert all(group["verdict"] != NOT_ASSESSED for group in others)
    assert report["flip_rate"] == np.mean(dense != sparse)
    without = compare(dense[~inside], sparse[~inside], ids[~inside], tolerance=0.01)
    assert report["certifiable_tolerance"] == without.certifiable_tolerance


@pytest.mark.parametrize(("sizes", "count"), [((100,), "1"), ((20, 100), "1"), ((10, 20), "none")])
def test_without_two_groups_there_is_no_verdict(sizes, count):
    dense, sparse, ids = random_split(sizes)
    report = reported(dense, sparse, [ids], "xy"[: len(sizes)], [""] * len(sizes))
    assert report["verdict"] == NOT_ASSESSED
    assert report["why_not_assessed"].endswith(f"30 samples or more; here {count} has.")
    assert report["flip_rate"] == np.mean(dense != sparse)
    assert report["bayes_max"] is None and report["p_value"] is None
    assert {group["verdict"] for group in report["groups"]} == {NOT_ASSESSED}


def test_an_attribute_without_two_groups_does_not_hide_the_others():
    dense, sparse, race = random_split((60, 90))
    rare = np.full(150, 2) + (np.arange(150) < 5)
    report = reported(dense, sparse, [race, rare], "abcd", ["race"] * 2 + ["rare"] * 2)
    verdicts = [group["verdict"] for group in report["groups"]]
    assert NOT_ASSESSED not in verdicts[:2] and verdicts[2:] == [NOT_ASSESSED] * 2
    alone = compare(dense, sparse, race, tolerance=0.01, permutations=2000)
    assert report["verdict"] == alone.verdict
    assert report["certifiable_tolerance"] == alone.certifiable_tolerance


def test_networks_that_agree_are_satisfied():
    dense, _, ids = random_split((50, 80, 200))
    report = reported(dense, dense, [ids], "xyz", [""] * 3, tolerance=0.1)
    assert report["verdict"] == "satisfied"
    assert report["flip_rate"] == 0 and report["bayes_max"]["mean"] == 0


def test_the_report_is_plain_numbers():
    dense, sparse, ids = random_split((50, 80, 10))
    means = [split_means(bits.astype(bool), ids, 3) for bits in (dense, sparse)]
    predictions = predictions_of(dense, sparse, [ids])
    report = add_verdict(split_report(*means, "xyz"), predictions, [""] * 3, 0.0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["samples_needed"] is None  # at a tolerance of 0 no number of samples is enough


def test_counts_are_those_of_the_audit():
    dense, sparse, ids = random_split((3, 4, 5))
    ours = counts_of(predictions_of(dense, sparse, [ids]), "xyz", [""] * 3)
    theirs = audit_counts.of_samples(dense, sparse, np.array(list("xyz"))[ids])
    for column, other in zip(ours.cells, theirs.cells, strict=True):
        np.testing.assert_array_equal(column, other)
    assert ours.partitions[0].names == theirs.partitions[0].names


def test_saved_predictions_come_back(tmp_path):
    dense, sparse, ids = random_split((3, 4))
    saved = predictions_of(dense, sparse, [ids])
    save_predictions(tmp_path / "p.npz", {"test": saved}, ["ä", "<b>"], ["", ""])
    with np.load(tmp_path / "p.npz") as found:
        assert found["group_names"].tolist() == ["ä", "<b>"]
        for name, array in saved._asdict().items():
            np.testing.assert_array_equal(found[f"test_{name}"], array)
            assert found[f"test_{name}"].dtype == array.dtype
