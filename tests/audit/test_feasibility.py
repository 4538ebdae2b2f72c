"""What multipliers and violations of known slopes say about feasibility."""

import json

import numpy as np
import pytest

from bap_jax import audit

EPOCHS = 20  # a fifth is four
TIME = np.arange(EPOCHS)


def history(*constraints, steps=3):
    """From `(multipliers, violations)` by epoch of each constraint.

    The steps of an epoch see violations around its mean, and multipliers that end at the epoch's.
    """
    found = audit.History()
    multipliers, violations = (np.array(split, float).T for split in zip(*constraints, strict=True))
    for epoch in range(len(multipliers)):
        for step in range(steps):
            shift = step - (steps - 1) / 2
            before = steps - 1 - step
            found.add(epoch, multipliers[epoch] - before, violations[epoch] + 0.001 * shift)
    return found


def row(multiplier, violation):
    """The report of one constraint."""
    found = audit.feasibility(history((multiplier, violation)), ["a"])
    (only,) = found["constraints"]
    assert found["status"] == only["status"]
    return only


def constant(value):
    return np.full(EPOCHS, value)


@pytest.mark.parametrize(
    ("multiplier", "violation", "status"),
    [
        (0.1 * TIME, constant(0.05), "not feasible as trained"),
        (0.1 * TIME, constant(-0.01), "met"),
        (0.1 * TIME, constant(0.0), "met"),
        (constant(0.0), -0.01 * TIME, "met"),
        (0.1 * TIME, np.linspace(0.4, 0.02, EPOCHS), "moving"),
        (0.1 * TIME, np.linspace(0.02, 0.4, EPOCHS), "not feasible as trained"),  # gets worse
        (2 - 0.1 * TIME, constant(0.05), "moving"),  # the multiplier falls
        (np.minimum(0.3 * TIME, 1), constant(0.05), "not feasible as trained"),  # at its bound
        # Violated throughout, but not in the last fifth; and the other way round.
        (0.1 * TIME, np.where(TIME < 16, 0.05, -0.001), "met"),
        (0.1 * TIME, np.where(TIME < 16, -0.05, 0.002), "not feasible as trained"),
    ],
)
def test_status(multiplier, violation, status):
    assert row(multiplier, violation)["status"] == status


@pytest.mark.parametrize(("fall", "status"), [(0.11, "moving"), (0.09, "not feasible as trained")])
def test_a_tenth_since_the_fifth_before_is_moving(fall, status):
    violation = np.where(TIME < 16, 0.1 * (1 + fall), 0.1)
    assert row(0.1 * TIME, violation)["status"] == status


def test_numbers_by_hand():
    """λ = .1 t at the end of epoch t, v = .5 − .2 λ: slope .1 an epoch, response −.2."""
    found = row(0.1 * TIME, 0.5 - 0.02 * TIME)
    assert found == pytest.approx(
        {
            "name": "a",
            "status": "moving",
            "multiplier": 1.9,
            "multiplier_slope": 0.1,
            "violation": 0.5 - 0.02 * 17.5,
            "least_violation": 0.5 - 0.02 * 19,
            "response": -0.2,
        }
    )


def test_a_violation_within_the_noise_is_none():
    assert row(constant(0.5), constant(1e-5))["status"] == "met"


@pytest.mark.parametrize("first", [1, 5, 7, 9, 10, 11, 18, 19])
def test_however_late_a_constraint_is_first_observed(first):
    late = np.where(first > TIME, np.nan, 0.05)
    found = audit.feasibility(history((constant(0.0), constant(-0.1)), (0.1 * TIME, late)), "ab")[
        "constraints"
    ][0]
    long_enough = EPOCHS - first >= 10
    assert found["status"] == ("not feasible as trained" if long_enough else "moving")


def test_a_late_constraint_of_a_long_run():
    """Twelve of sixty epochs: fewer than two fifths of the run."""
    found = audit.History()
    for epoch in range(60):
        found.add(epoch, np.ones(2), np.array([-0.1, 0.05 if epoch >= 48 else np.nan]))
    assert audit.feasibility(found, "ab")["status"] == "not feasible as trained"


def test_the_slack_is_the_callers():
    found = history((0.1 * TIME, constant(0.05)))
    assert audit.feasibility(found, "a", slack=0.06)["status"] == "met"
    assert audit.feasibility(found, "a", slack=0.04)["status"] == "not feasible as trained"


def test_what_was_never_observed_is_not_met():
    seen = history((constant(0.0), constant(-0.1)), (constant(0.0), constant(np.nan)))
    found = audit.feasibility(seen, "ab")
    assert [one["status"] for one in found["constraints"]] == ["met", "not observed"]
    assert found["status"] == "not observed" and found["unmet"] == 0
    found = audit.feasibility(seen, "ab", left_out="b")
    assert found["status"] == "met" and found["constraints"][1]["status"] == "left out"
    assert audit.feasibility(seen, "ab", left_out="a")["status"] == "not observed"


def test_a_violation_is_worse_than_what_was_not_observed():
    seen = history((0.1 * TIME, constant(0.1)), (constant(0.0), constant(np.nan)))
    found = audit.feasibility(seen, "ab", left_out="a")
    assert found["status"] == "not feasible as trained" and found["unmet"] == 1


def test_the_slope_is_that_of_the_last_fifth():
    found = row(np.where(TIME < 16, 5.0, 0.25 * TIME), constant(0.05))
    assert found["multiplier_slope"] == pytest.approx(0.25)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.0])
def test_no_response_of_a_multiplier_that_stood_still(value):
    found = row(constant(value), 0.05 + 0.01 * np.sin(TIME))
    assert found["response"] is None
    assert found["multiplier_slope"] == pytest.approx(0)


def test_no_slope_within_one_epoch():
    (found,) = audit.feasibility(history(([0.3], [-0.05])), ["a"])["constraints"]
    assert found["multiplier_slope"] is None and found["response"] is None
    assert found["status"] == "met"


@pytest.mark.parametrize("epochs", [1, 2, 5, 9])
def test_short_runs(epochs):
    """A fifth is at least one epoch; what cannot be compared with an earlier fifth is moving."""
    violation = np.linspace(0.4, 0.1, epochs)
    found = audit.feasibility(history((np.arange(epochs) * 0.1, violation)), ["a"])
    assert found["constraints"][0]["violation"] == pytest.approx(violation[-1])
    assert found["status"] == "moving"


def test_the_worst_comes_first_and_gives_the_status():
    groups = {
        "fine": (constant(0.0), constant(-0.1)),
        "stuck": (0.1 * TIME, constant(0.05)),
        "moving": (0.1 * TIME, np.linspace(0.9, 0.2, EPOCHS)),
    }
    found = audit.feasibility(history(*groups.values()), list(groups))
    assert [one["name"] for one in found["constraints"]] == ["moving", "stuck", "fine"]
    assert [one["status"] for one in found["constraints"]] == [
        "moving",
        "not feasible as trained",
        "met",
    ]
    assert found["status"] == "not feasible as trained"


def test_least_of_the_largest_violations():
    """Epochs' largest are .3, .2 and .4; each constraint alone was at .1 once."""
    found = audit.feasibility(history(([0] * 3, [0.3, 0.1, 0.1]), ([0] * 3, [0.1, 0.2, 0.4])), "ab")
    assert found["least_max_violation"] == pytest.approx(0.2)
    assert {row["name"]: row["least_violation"] for row in found["constraints"]} == pytest.approx(
        {"a": 0.1, "b": 0.1}
    )


def test_the_mean_of_an_epoch_is_over_the_steps_that_observed():
    found = audit.History()
    for violation in ([0.1, np.nan], [np.nan, np.nan], [0.3, 0.5]):
        found.add(0, np.ones(2), np.array(violation))
    np.testing.assert_allclose(found.violations, [[0.2, 0.5]])


def test_epochs_in_which_nothing_was_observed_do_not_count():
    found = audit.History()
    for epoch in range(4):
        found.add(epoch, np.ones(2), np.full(2, np.nan))
    told = audit.feasibility(found, "ab")
    assert told["status"] == "not observed" and told["unmet"] == 0
    assert [one["status"] for one in told["constraints"]] == ["not observed"] * 2
    assert told["least_max_violation"] is None and told["constraints"][0]["multiplier"] is None
    found.add(4, np.ones(2), np.array([0.1, -0.1]))
    found.add(5, np.ones(2), np.full(2, np.nan))
    assert len(found.violations) == len(found.multipliers) == 1


def test_a_constraint_that_was_never_observed():
    """Neither a warning, nor a number that is none, nor a say in the status."""
    found = audit.feasibility(
        history((0.1 * TIME, constant(0.05)), (constant(0.5), constant(np.nan))), "ab"
    )
    first, second = found["constraints"]
    assert (first["name"], second["name"], second["violation"]) == ("a", "b", None)
    assert found["status"] == first["status"] == "not feasible as trained"
    assert second["multiplier"] == 0.5
    assert set(second) == set(first)
    assert "NaN" not in json.dumps(found)


def test_a_constraint_observed_late_counts_from_then_on():
    late = np.where(TIME < 8, np.nan, 0.05)
    found = audit.feasibility(
        history((constant(0.0), constant(-0.1)), (np.maximum(TIME - 8, 0) * 0.1, late)), "ab"
    )
    assert found["constraints"][0] == pytest.approx(
        {
            "name": "b",
            "status": "not feasible as trained",
            "multiplier": 1.1,
            "multiplier_slope": 0.1,
            "violation": 0.05,
            "least_violation": 0.05,
            "response": 0.0,
        },
        abs=1e-9,
    )


@pytest.mark.parametrize(("at_most", "listed"), [(30, 30), (29, 20), (1000, 30)])
def test_of_many_constraints_the_worst_twenty_are_listed(at_most, listed):
    groups = [(0.1 * TIME, constant(0.01 * (i + 1))) for i in range(30)]
    found = audit.feasibility(history(*groups), [str(i) for i in range(30)], at_most)
    assert [row["name"] for row in found["constraints"]] == [str(29 - i) for i in range(listed)]


def test_the_report_is_plain_numbers():
    found = audit.feasibility(history((0.1 * TIME, constant(0.05)), (TIME, -TIME)), "ab")
    assert json.loads(json.dumps(found)) == found
