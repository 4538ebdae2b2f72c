import numpy as np
import pytest

from bap_jax.audit import excess, planning
from bap_jax.audit.counts import Table
from bap_jax.audit.planning import decidable_tolerance, samples_needed
from bap_jax.errors import UserError

PUBLISHED = {
    0.08: {0.05: 230, 0.02: 1_277, 0.01: 4_988},
    0.16: {0.05: 411, 0.02: 2_490, 0.01: 9_909},
    0.25: {0.05: 626, 0.02: 3_872, 0.01: 15_465},
}


@pytest.mark.parametrize("flip_rate", PUBLISHED)
def test_the_published_table(flip_rate):
    for tolerance, expected in PUBLISHED[flip_rate].items():
        assert samples_needed(flip_rate, tolerance) == expected


def test_ten_groups_together_take_about_twice_as_many():
    for flip_rate in PUBLISHED:
        one, ten = (samples_needed(flip_rate, 0.02, groups=groups) for groups in (1, 10))
        assert ten / one == pytest.approx(2.1, abs=0.1)


def test_the_share_of_the_group_counts():
    assert samples_needed(0.08, 0.02, share=0.25) == pytest.approx(0.75 * 1_277, abs=1)


@pytest.mark.parametrize(
    ("true_gap", "share", "groups"), [(0, 0.1, 1), (0.01, 0.1, 1), (-0.01, 0.5, 1), (0, 0.1, 10)]
)
def test_the_power_is_that_of_simulated_samples(true_gap, share, groups):
    tolerance, flip_rate = 0.05, 0.16
    # The excess gap is (1 - share) times the difference between the group and the others.
    n = samples_needed(flip_rate, tolerance, share=share, true_gap=true_gap, groups=groups)
    difference = true_gap / (1 - share)
    harmed, helped = (flip_rate + difference) / 2, (flip_rate - difference) / 2
    random = np.random.default_rng(0)
    count = round(1 / share) if groups > 1 else 2
    sizes = np.full(count, n) if groups > 1 else np.array([n, round(n * (1 - share) / share)])
    shares = np.tile([flip_rate / 2, flip_rate / 2, 1 - flip_rate], (count, 1))
    if groups == 1:
        shares[0] = harmed, helped, 1 - harmed - helped
    drawn = random.multinomial(sizes, shares, (4000, count))
    upper = excess.upper_limit(Table(sizes, drawn[..., 0], drawn[..., 1], drawn[..., 2]), 0.05)
    found = (upper[:, :groups] <= tolerance).all(axis=1).mean()
    assert found == pytest.approx(0.8, abs=0.03)


def test_the_decidable_tolerance_inverts():
    for flip_rate, tolerances in PUBLISHED.items():
        for tolerance, n in tolerances.items():
            assert decidable_tolerance(flip_rate, n) == pytest.approx(tolerance, rel=2e-3)
    assert decidable_tolerance(0.1, 500, true_gap=0.02) > 0.02
    assert np.isnan(decidable_tolerance(1.0, 1, power=0.99))


def test_a_tolerance_next_to_0_takes_a_very_large_number():
    assert samples_needed(0.1, 1e-290) == samples_needed(0.1, 1e-20) == 2**53


def test_without_flips_it_is_the_limit_of_no_event():
    n = samples_needed(0, 0.01)
    table = Table(*(np.array(column) for column in ([n, 10**8], [0, 0], [0, 0], [0, 0])))
    assert excess.upper_limit(table, 0.05)[0] == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"flip_rate": 1.2}, r"flip_rate must be a fraction in \[0, 1\]; got 1.2"),
        ({"tolerance": 0}, r"tolerance must be a fraction in \(0, 1\]; got 0"),
        ({"alpha": 0}, r"alpha must be in \(0, 0.5\); got 0"),
        ({"power": 1}, r"power must be in \(0, 1\); got 1"),
        ({"share": 1}, r"share must be a fraction in \[0, 1\); got 1"),
        ({"true_gap": 0.05}, "true_gap must be below the tolerance 0.02; got 0.05"),
        ({"true_gap": -0.2}, "true_gap must be at most the flip rate 0.1"),
        ({"groups": 0}, "groups must be at least 1; got 0"),
    ],
)
def test_a_number_outside_its_range_is_named(wrong, expected):
    with pytest.raises(UserError, match=expected):
        planning.samples_needed(**{"flip_rate": 0.1, "tolerance": 0.02, **wrong})
    with pytest.raises(UserError, match="n must be at least 1"):
        decidable_tolerance(0.1, 0)
