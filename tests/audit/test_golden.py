"""Every case of another implementation of the audit, found in the file, never listed."""

import json
import re

import numpy as np
import pytest

from bap_jax.audit import assessment, chance, counts, excess, spread
from tests import golden_files

PATH = golden_files.FOLDER / "audit.json"
CASES = json.loads(PATH.read_text()) if PATH.exists() else {}
THEIR_PERMUTATIONS = 20_000
COUNTS = {"n", "harmed", "helped"}
RESULTS = {"max_excess", "expected_by_chance", "p_value", "spread", "bayes_max"}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def counted(case):
    return counts.of_groups(case["n"], case["harmed"], case["helped"])


def levels(case):
    """Levels of the limits in a case, and the limits."""
    return {float(key.removeprefix("alpha_")): case[key] for key in case if "alpha" in key}


def test_there_are_cases():
    golden_files.some(CASES, "cases of an audit")


@each_case
def test_every_entry_is_checked(case):
    alphas = {key for key in case if re.fullmatch(r"alpha_0\.\d+", key)}
    assert set(case) - COUNTS - RESULTS == alphas
    assert all(set(case[key]) == {"excess", "lower", "upper"} for key in alphas)


@each_case
def test_limits(case):
    table = counted(case).cells
    for alpha, expected in levels(case).items():
        np.testing.assert_allclose(excess.excess_gap(table), expected["excess"], atol=1e-12)
        np.testing.assert_allclose(excess.lower_limit(table, alpha), expected["lower"], atol=1e-6)
        np.testing.assert_allclose(excess.upper_limit(table, alpha), expected["upper"], atol=1e-6)


@each_case
def test_limits_in_the_audit(case):
    for alpha, expected in levels(case).items():
        audit = assessment.from_counts(
            counted(case), tolerance=0.02, alpha=alpha, min_group_size=1, permutations=10
        )
        found = {row.name: row for row in audit.groups}
        rows = [found[str(group)] for group in range(len(case["n"]))]
        np.testing.assert_allclose([row.lower for row in rows], expected["lower"], atol=1e-6)
        np.testing.assert_allclose([row.upper for row in rows], expected["upper"], atol=1e-6)
        assert audit.max_excess_gap == pytest.approx(case["max_excess"], abs=1e-12)
        assert audit.certifiable_tolerance == pytest.approx(max(expected["upper"]), abs=1e-6)


@each_case
def test_chance(case):
    table = counted(case)
    part = counts.assessed_groups(table, table.partitions[0], 1)
    found = chance.chance_of_largest(table.cells, [part])
    # Both are simulated: five standard errors of the difference.
    runs = np.sqrt(1 / len(found.maxima) + 1 / THEIR_PERMUTATIONS)
    assert abs(found.expected - case["expected_by_chance"]) <= 5 * runs * found.maxima.std() + 1e-12
    p = case["p_value"]
    assert abs(found.p_value - p) <= 5 * runs * np.sqrt(p * (1 - p)) + 1 / THEIR_PERMUTATIONS


@each_case
def test_spread_and_estimate_of_the_largest(case):
    table = counted(case).cells
    gaps, errors = excess.excess_gap(table), excess.standard_error(table)
    assert spread.spread(gaps, errors) == pytest.approx(case["spread"], abs=1e-9)
    mean, lower, upper = case["bayes_max"]
    found = spread.posterior(gaps, errors).largest
    assert found.mean == pytest.approx(mean, abs=3e-4)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-3)
