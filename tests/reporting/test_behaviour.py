"""How multipliers behaved, told from histories that are known to settle, oscillate or grow."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bap_jax import lagrangian, reporting
from bap_jax.reporting.behaviour import ConstrainedGroups, behaviour
from bap_jax.reporting.behaviour_report import STATUSES, multiplier_behaviour
from tests.reporting.test_feasibility import EPOCHS, TIME, constant

LONG = np.arange(50)  # a fifth is ten
MET = -0.01


def record(multipliers, violations=MET):
    """A history with one step in each epoch; arguments `(epoch, constraint)` or alike."""
    multipliers = np.array(multipliers, float)
    history = reporting.History()
    for epoch, pair in enumerate(
        zip(multipliers, np.broadcast_to(violations, multipliers.shape), strict=True)
    ):
        history.add(epoch, *pair)
    return history


def detached(share, multipliers):
    return lagrangian.group_weights(share, multipliers, "detached")


def groups_of(size, share=0.1, weights=detached, kinds=1, attributes=None):
    names = [str(i) for i in range(size)]
    ids = np.tile(np.arange(size), kinds)
    return ConstrainedGroups(names, attributes or [""] * size, np.full(size, share), weights, ids)


def found(*multipliers, violations=MET, **options):
    """The section of a report for these constraints, `(epoch,)` each, on groups of a tenth."""
    size = len(multipliers)
    history = record(np.transpose(multipliers), violations)
    return multiplier_behaviour(history, list(map(str, range(size))), groups_of(size), **options)


def alternating(middle, amplitude, time=TIME):
    return middle + amplitude * (-1.0) ** time


SINE = 1 + 0.5 * np.sin(2 * np.pi * LONG / 5)


@pytest.mark.parametrize(
    ("multiplier", "status", "sentence"),
    [
        (
            constant(0),
            "at rest",
            "Multiplier: at rest at 0; every group was worth about its share.",
        ),
        (constant(0.21), "settled", "Multiplier: settled; group 0 was worth 3.1 × its share."),
        (
            alternating(0.9, 0.31),
            "oscillating",
            "Multiplier: oscillating (group 0 by ± 0.31, 34 % of its size); "
            "group 0 was worth 10 × its share.",
        ),
        (
            SINE,
            "oscillating",
            "Multiplier: oscillating (group 0 by ± 0.48, 48 % of its size); "
            "group 0 was worth 11 × its share.",
        ),
        (
            0.1 * TIME,
            "still moving",
            "Multiplier: still moving (group 0 from 1.6 to 1.9); group 0 was worth 20 × its share.",
        ),
        (
            2 - 0.1 * TIME,
            "still moving",
            "Multiplier: still moving (group 0 from 0.4 to 0.1); "
            "group 0 was worth 2.0 × its share.",
        ),
        (  # up and down once: no trend, and no oscillation
            np.where(np.isin(TIME, (17, 18)), 0.5, 0.25),
            "still moving",
            "Multiplier: still moving (group 0 between 0.25 and 0.5); "
            "group 0 was worth 3.5 × its share.",
        ),
    ],
)
def test_each_behaviour(multiplier, status, sentence):
    result = found(multiplier)
    assert result["status"] == result["constraints"][0]["status"] == status
    assert result["sentence"] == sentence


def test_numbers_by_hand():
    """λ alternates between .6 and 1.2 and ends at .6; the weight is .1 + .9, of a share of .1."""
    (row,) = found(alternating(0.9, 0.3))["constraints"]
    assert row == pytest.approx(
        {
            "name": "0",
            "status": "oscillating",
            "multiplier": 0.6,
            "mean": 0.9,
            "amplitude": 0.3,
            "worth": 10.0,
        }
    )
    (row,) = found(0.1 * TIME)["constraints"]  # that of the last epoch, as it does not oscillate
    assert (row["mean"], row["amplitude"]) == pytest.approx((1.75, 0.15))
    assert row["worth"] == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("multiplier", "violation", "status"),
    [
        (0.1 * TIME, constant(0.05), "stuck"),
        (np.minimum(0.3 * TIME, 1), constant(0.05), "stuck"),  # at its bound
        (constant(0.0), constant(0.05), "stuck"),  # it cannot even begin to grow
        (alternating(1, 0.5) + 0.2 * TIME, constant(0.05), "stuck"),
        (0.1 * TIME, np.linspace(0.4, 0.02, EPOCHS), "still moving"),
        (2 - 0.1 * TIME, constant(0.05), "stuck"),  # held down
        (2 - 0.1 * TIME, np.where(TIME % 2, 0.2, -0.1), "still moving"),
        (np.minimum(0.3 * TIME, 1), constant(-0.05), "settled"),
    ],
)
def test_stuck_is_what_feasibility_says(multiplier, violation, status):
    history = record(multiplier[:, None], violation[:, None])
    feasible = reporting.feasibility(history, ["a"])["status"]
    result = multiplier_behaviour(history, ["a"])
    assert result["status"] == status
    assert (feasible == "not feasible as trained") == (status == "stuck")
    equality = multiplier_behaviour(history, ["a"], bounds_violations=False)
    assert equality["status"] != "stuck"


def test_the_sentence_of_a_stuck_constraint():
    result = found(
        0.1 * TIME, constant(0.2), violations=np.stack([constant(0.05), constant(MET)], 1)
    )
    assert result["status"] == "stuck"
    assert result["sentence"] == (
        "Multipliers: 1 of 2 stuck while violated (group 0 at 1.9), 1 settled; "
        "group 0 was worth 20 × its share (group 1: 3.0 ×)."
    )


def test_most_are_at_rest():
    result = found(constant(0.21), constant(0.11), *[constant(0)] * 8)
    assert result["status"] == "settled"
    assert result["sentence"] == (
        "Multipliers: settled (8 of 10 at rest); group 0 was worth 3.1 × its share "
        "(group 1: 2.1 ×)."
    )
    result = found(*[constant(0)] * 3)
    assert result["status"] == "at rest"
    assert result["sentence"].startswith("Multipliers: all 3 at rest at 0; every group was")


def test_the_worst_come_first_and_two_of_each_are_named():
    result = found(
        alternating(0.8, 0.2),
        alternating(0.8, 0.4),
        alternating(0.8, 0.3),
        0.1 * TIME,
        constant(0.02),
        constant(0),
    )
    assert result["status"] == "oscillating"
    assert result["sentence"] == (
        "Multipliers: 3 of 6 oscillating (group 1 by ± 0.4, 50 % of its size; group 2 by ± 0.3, "
        "38 % of its size), 1 still moving (group 3 from 1.6 to 1.9), 1 settled, 1 at rest; "
        "group 3 was worth 20 × its share (group 0: 9.0 ×)."
    )
    assert [row["name"] for row in result["constraints"]] == list("301245")


@pytest.mark.parametrize(
    ("middle", "amplitude", "share", "status"),
    [
        # The weight w + λ varies by less, and by more, than ± 10 %.
        (0.005, 0.005, 0.1, "settled"),
        (0.2, 0.029, 0.1, "settled"),
        (0.2, 0.031, 0.1, "oscillating"),
        (0.005, 0.005, 0.001, "oscillating"),
        (5.0, 0.4, 0.1, "settled"),
    ],
)
def test_noise_that_does_not_matter_is_no_oscillation(middle, amplitude, share, status):
    history = record(alternating(middle, amplitude)[:, None])
    assert multiplier_behaviour(history, ["0"], groups_of(1, share))["status"] == status


@pytest.mark.parametrize(("slope", "status"), [(0.009, "settled"), (0.011, "still moving")])
def test_a_trend_of_a_tenth_goes_on(slope, status):
    """Over four epochs λ rises by three times the slope; the mean weight is .3."""
    assert found(0.2 + slope * (TIME - 17.5))["status"] == status


def test_random_walks_and_noise_on_a_trend():
    rng = np.random.default_rng(0)
    noisy = 0.1 * LONG + 0.05 * rng.normal(size=LONG.size)
    assert found(noisy)["status"] == "still moving"
    assert found(1 + 0.3 * rng.normal(size=LONG.size))["status"] == "oscillating"
    assert found(1 + 0.01 * rng.normal(size=LONG.size))["status"] == "settled"


def test_only_the_last_fifth_counts():
    early = np.where(LONG < 40, alternating(1, 0.5, LONG), 0.7)
    assert found(early)["status"] == "settled"
    assert found(early[:41])["status"] == "oscillating"


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_too_few_epochs(epochs):
    result = found(alternating(0.6, 0.2)[:epochs], constant(0)[:epochs], violations=0.1)
    assert result["status"] == "too few epochs"
    assert result["sentence"].startswith(
        "Multipliers: too few epochs to tell (each was observed in fewer than 4); group 0 was worth"
    )
    assert result["constraints"][0]["mean"] is result["constraints"][0]["amplitude"] is None
    assert found(alternating(0.6, 0.2)[:4])["status"] == "oscillating"


def test_constraints_that_were_seldom_or_never_observed():
    violations = np.full((EPOCHS, 4), np.nan)
    violations[:, 0], violations[-3:, 1] = MET, MET
    same = [constant(0.1), constant(0.1), constant(0.1), constant(0.4)]
    result = found(*same, violations=violations, left_out="3")
    status = {row["name"]: row["status"] for row in result["constraints"]}
    assert status == {"0": "settled", "1": "too few epochs", "2": "not observed", "3": "left out"}
    assert result["status"] == "too few epochs"
    assert result["sentence"] == (  # λ of a group that is left out does not act
        "Multipliers: 1 of 2 observed in too few epochs to tell, 1 settled; "
        "group 0 was worth 2.0 × its share (group 1: 2.0 ×)."
    )


def test_nothing_observed_and_no_constraints():
    result = multiplier_behaviour(reporting.History(), ["a", "b"], groups_of(2))
    assert (result["status"], result["sentence"]) == (
        "not observed",
        "Multipliers: no constraint was observed.",
    )
    assert json.loads(json.dumps(result)) == result
    assert multiplier_behaviour(reporting.History(), []) is None


def test_equalities_may_lower_the_weight_of_a_group():
    result = found(constant(-0.04), constant(0.02), constant(-0.13), bounds_violations=False)
    assert result["sentence"] == (
        "Multipliers: settled; group 2 was worth −0.3 × its share (group 0: 0.6 ×)."
    )


def test_lower_sides_lower_the_weight_of_their_group():
    def weights(share, multipliers):
        upper, lower = multipliers.reshape(2, -1)
        return share + upper - lower

    groups = groups_of(2, weights=weights, kinds=2)
    names = ["0", "1", "lower side of 0", "lower side of 1"]
    multipliers = [constant(0.1), constant(0), constant(0), alternating(0.05, 0.04)]
    result = multiplier_behaviour(record(np.transpose(multipliers)), names, groups)
    assert result["sentence"] == (
        "Multipliers: 1 of 4 oscillating (lower side of group 1 by ± 0.04, 80 % of its size), "
        "1 settled, 2 at rest; group 0 was worth 2.0 × its share (group 1: 0.5 ×)."
    )
    worth = {row["name"]: row["worth"] for row in result["constraints"]}
    assert worth == pytest.approx(dict(zip(names, [2.0, 0.5, 2.0, 0.5], strict=True)))


def test_where_losses_are_not_weighed_multipliers_stay_numbers():
    history = record(np.transpose([constant(0.8), alternating(0.3, 0.2), constant(0)]))
    expected = "Multipliers: 1 of 3 oscillating ({} by ± 0.2, 67 % of its size), 1 settled, "
    expected += "1 at rest; largest λ: 0.8 ({}), 0.3 ({})."
    own = multiplier_behaviour(history, ["total", "worst", "other"])
    assert own["sentence"] == expected.format("worst", "total", "worst")
    assert {row["worth"] for row in own["constraints"]} == {None}
    of_groups = multiplier_behaviour(history, list("012"), groups_of(3, weights=None))
    assert of_groups["sentence"] == expected.format("group 1", "group 0", "group 1")


def test_groups_of_several_attributes_are_told_apart():
    groups = groups_of(2, attributes=["race", "age"])
    result = multiplier_behaviour(record(np.transpose([0.1 * TIME, constant(0)])), "01", groups)
    assert result["sentence"] == (
        "Multipliers: 1 of 2 still moving (group race=0 from 1.6 to 1.9), 1 at rest; "
        "group race=0 was worth 20 × its share."
    )


def test_names_are_shown_on_one_line():
    groups = groups_of(1)._replace(names=["two\nlines " + 50 * "long "])
    sentence = multiplier_behaviour(record(0.1 * TIME[:, None]), groups.names, groups)["sentence"]
    assert "\n" not in sentence and "group two\\nlines" in sentence and len(sentence) < 150


def test_of_many_constraints_the_largest_are_listed():
    size = 10_000
    multipliers = 1e-4 * np.arange(size) / size * np.ones((60, 1))
    multipliers[:, -1] = alternating(5e-4, 2e-4, np.arange(60))
    names = [str(i) for i in range(size)]
    result = multiplier_behaviour(record(multipliers), names, groups_of(size, 1 / size))
    assert [row["name"] for row in result["constraints"]] == names[:-21:-1]
    assert result["sentence"] == (
        "Multipliers: 1 of 10,000 oscillating (group 9999 by ± 0.0002, 40 % of its size), "
        "9,998 settled, 1 at rest; group 9999 was worth 6.0 × its share (group 9998: 2.0 ×)."
    )


FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
PLACES = st.floats(allow_infinity=False, width=32)  # NaN where not observed


@given(st.data(), st.integers(0, 30), st.integers(1, 3), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_finite_history_has_a_sentence(data, epochs, size, weighs, bounds):
    shape = epochs, size
    multipliers = data.draw(arrays.arrays(np.float32, shape, elements=FLOATS))
    violations = data.draw(arrays.arrays(np.float32, shape, elements=PLACES))
    names = [str(i) for i in range(size)]
    groups = groups_of(size, weights=detached if weighs else None)
    history = record(multipliers, violations)
    result = multiplier_behaviour(history, names, groups, bounds_violations=bounds)
    assert result["status"] in STATUSES
    assert {row["status"] for row in result["constraints"]} <= {*STATUSES}
    assert result["sentence"].endswith(".") and "nan" not in result["sentence"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    single = behaviour(history, names, groups, bounds_violations=bounds)
    assert all(math.isfinite(value) for value in single.amplitude) or not history.multipliers
