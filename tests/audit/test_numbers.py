"""Numbers in words: minus signs, units, digits."""

import math

import pytest

from bap_jax.audit import numbers


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (numbers.points(0.021), "2.1"),
        (numbers.points(-0.019), "−1.9"),
        (numbers.points(-0.0001), "0.0"),
        (numbers.points(0.021, sign=True), "+2.1"),
        (numbers.points(0.0001, sign=True), "0.0"),
        (numbers.points(math.nan), "–"),
        (numbers.interval(-0.019, 0.121), "−1.9 to 12.1"),
        (numbers.percent(0.937), "93.7\xa0%"),
        (numbers.percent(math.nan), "–"),
        (numbers.count(1, "sample"), "1 sample"),
        (numbers.count(2500, "sample"), "2,500 samples"),
        (numbers.count(2, "entry", "entries"), "2 entries"),
        (numbers.level(0.05), "5\xa0%"),
        (numbers.level(0.0005), "0.05\xa0%"),
        (numbers.level(1 - 0.025), "97.5\xa0%"),
        (numbers.level(1 - 2 * 0.05), "90\xa0%"),
        (numbers.tolerance(0.01), "1 point"),
        (numbers.tolerance(0.005), "0.5 points"),
        (numbers.tolerance(0.0), "0 points"),
        (numbers.short(0.05), "0.05"),
        (numbers.p_value(0.37), "p = .37"),
        (numbers.p_value(0.034), "p = .034"),
        (numbers.p_value(0.0001), "p < .001"),
        (numbers.p_value(1.0), "p = 1.00"),
    ],
)
def test_words_of_numbers(got, wanted):
    assert got == wanted


@pytest.mark.parametrize(
    ("widths", "tolerance", "digits"),
    [
        ([0.1, 0.2], 0.01, 1),
        ([0.0, 0.0, 0.1], 0.01, 1),
        ([], 0.01, 1),
        ([0.005], 0.01, 2),
        ([0.0005], 0.01, 3),
        ([0.1], 0.0025, 2),
    ],
)
def test_digits_fit_the_width_of_the_limits(widths, tolerance, digits):
    assert numbers.digits_for(widths, tolerance) == digits
