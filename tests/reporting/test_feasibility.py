"""What multipliers and violations of known slopes say about feasibility."""

import json

import numpy as np
import pytest

from bap_jax import reporting

EPOCHS = 20  # a fifth is four
TIME = np.arange(EPOCHS)


def history(*constraints, steps=3):
    """From `(multipliers, violations)` by epoch of each constraint.

    The steps of an epoch see violations around its mean, and multipliers that end at the epoch's.
    """
    record = reporting.History()
    multipliers, violations = (np.array(split, float).T for split in zip(*constraints, strict=True))
    for epoch in range(len(multipliers)):
        for step in range(steps):
            shift = step - (steps - 1) / 2
            before = steps - 1 - step
            record.add(epoch, multipliers[epoch] - before, violations[epoch] + 0.001 * shift)
    return record


def row(multiplier, violation):
    """The row of a single constraint."""
    result = reporting.feasibility(history((multiplier, violation)), ["a"])
    (constraint,) = result["constraints"]
    assert result["status"] == constraint["status"]
    return constraint


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
        (2 - 0.1 * TIME, constant(0.05), "not feasible as trained"),  # it is held down
        (2 - 0.1 * TIME, np.where(TIME % 2, 0.2, -0.1), "moving"),  # it falls as it may
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
    result = row(0.1 * TIME, 0.5 - 0.02 * TIME)
    assert result == pytest.approx(
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
def test_a_constraint_observed_late_needs_ten_epochs(first):
    late = np.where(first > TIME, np.nan, 0.05)
    result = reporting.feasibility(
        history((constant(0.0), constant(-0.1)), (0.1 * TIME, late)), "ab"
    )["constraints"][0]
    long_enough = EPOCHS - first >= 10
    assert result["status"] == ("not feasible as trained" if long_enough else "moving")


def test_a_late_constraint_of_a_long_run():
    """Twelve of sixty epochs: fewer than two fifths of the run."""
    record = reporting.History()
    for epoch in range(60):
        record.add(epoch, np.ones(2), np.array([-0.1, 0.05 if epoch >= 48 else np.nan]))
    assert reporting.feasibility(record, "ab")["status"] == "not feasible as trained"


def test_the_slack_can_be_chosen():
    record = history((0.1 * TIME, constant(0.05)))
    assert reporting.feasibility(record, "a", slack=0.06)["status"] == "met"
    assert reporting.feasibility(record, "a", slack=0.04)["status"] == "not feasible as trained"


def test_what_was_never_observed_is_not_met():
    seen = history((constant(0.0), constant(-0.1)), (constant(0.0), constant(np.nan)))
    result = reporting.feasibility(seen, "ab")
    assert [each["status"] for each in result["constraints"]] == ["met", "not observed"]
    assert result["status"] == "not observed" and result["unmet"] == 0
    result = reporting.feasibility(seen, "ab", left_out="b")
    assert result["status"] == "met" and result["constraints"][1]["status"] == "left out"
    assert reporting.feasibility(seen, "ab", left_out="a")["status"] == "not observed"


def test_a_violation_is_worse_than_what_was_not_observed():
    seen = history((0.1 * TIME, constant(0.1)), (constant(0.0), constant(np.nan)))
    result = reporting.feasibility(seen, "ab", left_out="a")
    assert result["status"] == "not feasible as trained" and result["unmet"] == 1


def test_the_slope_is_that_of_the_last_fifth():
    result = row(np.where(TIME < 16, 5.0, 0.25 * TIME), constant(0.05))
    assert result["multiplier_slope"] == pytest.approx(0.25)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1.0])
def test_no_response_of_a_multiplier_that_did_not_move(value):
    result = row(constant(value), 0.05 + 0.01 * np.sin(TIME))
    assert result["response"] is None
    assert result["multiplier_slope"] == pytest.approx(0)


def test_no_slope_within_one_epoch():
    (result,) = reporting.feasibility(history(([0.3], [-0.05])), ["a"])["constraints"]
    assert result["multiplier_slope"] is None and result["response"] is None
    assert result["status"] == "met"


@pytest.mark.parametrize("epochs", [1, 2, 5, 9])
def test_short_runs(epochs):
    """A fifth is at least one epoch; without an earlier fifth, the status is moving."""
    violation = np.linspace(0.4, 0.1, epochs)
    result = reporting.feasibility(history((np.arange(epochs) * 0.1, violation)), ["a"])
    assert result["constraints"][0]["violation"] == pytest.approx(violation[-1])
    assert result["status"] == "moving"


def test_the_worst_comes_first_and_gives_the_status():
    groups = {
        "fine": (constant(0.0), constant(-0.1)),
        "stuck": (0.1 * TIME, constant(0.05)),
        "moving": (0.1 * TIME, np.linspace(0.9, 0.2, EPOCHS)),
    }
    result = reporting.feasibility(history(*groups.values()), list(groups))
    assert [each["name"] for each in result["constraints"]] == ["moving", "stuck", "fine"]
    assert [each["status"] for each in result["constraints"]] == [
        "moving",
        "not feasible as trained",
        "met",
    ]
    assert result["status"] == "not feasible as trained"


def test_least_of_the_largest_violations():
    """Epochs' largest are .3, .2 and .4; each constraint alone was at .1 once."""
    result = reporting.feasibility(
        history(([0] * 3, [0.3, 0.1, 0.1]), ([0] * 3, [0.1, 0.2, 0.4])), "ab"
    )
    assert result["least_max_violation"] == pytest.approx(0.2)
    assert {row["name"]: row["least_violation"] for row in result["constraints"]} == pytest.approx(
        {"a": 0.1, "b": 0.1}
    )


def test_the_mean_of_an_epoch_is_over_the_steps_that_observed():
    record = reporting.History()
    for violation in ([0.1, np.nan], [np.nan, np.nan], [0.3, 0.5]):
        record.add(0, np.ones(2), np.array(violation))
    np.testing.assert_allclose(record.violations, [[0.2, 0.5]])


def test_epochs_in_which_nothing_was_observed_do_not_count():
    record = reporting.History()
    for epoch in range(4):
        record.add(epoch, np.ones(2), np.full(2, np.nan))
    result = reporting.feasibility(record, "ab")
    assert result["status"] == "not observed" and result["unmet"] == 0
    assert [each["status"] for each in result["constraints"]] == ["not observed"] * 2
    assert result["least_max_violation"] is None and result["constraints"][0]["multiplier"] is None
    record.add(4, np.ones(2), np.array([0.1, -0.1]))
    record.add(5, np.ones(2), np.full(2, np.nan))
    assert len(record.violations) == len(record.multipliers) == 1


def test_a_constraint_that_was_never_observed():
    """It gives no warning and no NaN, and does not affect the status of the others."""
    result = reporting.feasibility(
        history((0.1 * TIME, constant(0.05)), (constant(0.5), constant(np.nan))), "ab"
    )
    first, second = result["constraints"]
    assert (first["name"], second["name"], second["violation"]) == ("a", "b", None)
    assert result["status"] == first["status"] == "not feasible as trained"
    assert second["multiplier"] == 0.5
    assert set(second) == set(first)
    assert "NaN" not in json.dumps(result)


def test_a_constraint_observed_late_counts_from_then_on():
    late = np.where(TIME < 8, np.nan, 0.05)
    result = reporting.feasibility(
        history((constant(0.0), constant(-0.1)), (np.maximum(TIME - 8, 0) * 0.1, late)), "ab"
    )
    assert result["constraints"][0] == pytest.approx(
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
    result = reporting.feasibility(history(*groups), [str(i) for i in range(30)], at_most)
    assert [row["name"] for row in result["constraints"]] == [str(29 - i) for i in range(listed)]


def test_the_report_is_plain_numbers():
    result = reporting.feasibility(history((0.1 * TIME, constant(0.05)), (TIME, -TIME)), "ab")
    assert json.loads(json.dumps(result)) == result
