"""A run as text: the verdict first, one table of the pruned network, notes."""

import numpy as np
import pytest

from bap_jax import reporting
from bap_jax.audit.text import sentence
from bap_jax.reporting.verdict_text import audit_of_split, verdict_sentence
from bap_jax.reporting.verdicts import audit_of_counts, counts_of
from tests.reporting.fakes import fake_report, judged_report


def text(verbose=False, **entries):
    """The text for a report with these entries, its wrapped lines joined."""
    return " ".join(reporting.format_report(fake_report() | entries, verbose).split())


def table_of(report, verbose=False):
    """Lines between the head of the table and the notes."""
    lines = reporting.format_report(report, verbose).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("group "))
    return lines[start:]


def test_the_verdict_comes_first_and_is_the_audits_own():
    report, predictions = judged_report()
    found = audit_of_counts(
        counts_of(
            predictions["test"], [g["name"] for g in report["splits"]["test"]["groups"]], [""] * 3
        ),
        report["tolerance"],
    )
    expected = sentence(found)
    whole = " ".join(reporting.format_report(report).split())
    assert whole.startswith(expected) and " on 330 test samples: " in expected
    assert verdict_sentence(report, "train").count("330 training samples") == 1
    again = audit_of_split(report["splits"]["test"], report["tolerance"])
    assert again.overall == pytest.approx(found.overall)
    assert [row.name for row in again.groups] == [row.name for row in found.groups]


def test_a_split_without_a_verdict_says_why():
    assert text().startswith(
        "Not assessed at ε = 2 points on 10 test samples: there are too few samples. CEAG, seed 0, "
        "after epoch 7: 95.00 % of the prunable weights removed (90.00 % of all)"
    )


def test_the_worst_test_groups_come_first():
    report, _ = judged_report()
    gaps = {g["name"]: g["excess_gap"] for g in report["splits"]["test"]["groups"]}
    rows = [line for line in table_of(report) if line.startswith("group ")][1:]
    order = sorted(gaps, key=lambda name: -gaps[name])
    assert [row[:7] for row in rows] == order
    for row in rows:
        group = next(g for g in report["splits"]["test"]["groups"] if g["name"] == row[:7])
        limits = [f"{100 * group[key]:.1f}".replace("-", "−") for key in ("lower", "upper")]
        assert row.split()[-2:] == limits


TABLE = [
    ("left", ["90.0", "80.0", "3.0!"]),
    ("a very long n… group", ["90.0", "80.0", "−1.0"]),
]


def test_the_table_marks_violations_alone():
    lines = table_of(fake_report())
    for name, cells in TABLE:
        row = next(line for line in lines if line.startswith(name))
        assert row.removeprefix(name).split() == [*(cells * 3), "–", "–"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[: lines.index("")]}
    assert rows["all"] == ["97.5", "87.5"] * 3
    assert rows["largest"] == ["3.0!"] * 3
    assert rows["flips"] == ["20.0", "%"] * 3


def test_columns_of_the_table_are_aligned():
    head, _, row, *_ = table_of(fake_report())
    for value, column in (("90.0", "dense"), ("80.0", "sparse"), ("3.0", "excess")):
        assert row.index(value) + len(value) == head.index(column) + len(column)
    assert all(len(line) <= 100 for line in table_of(fake_report()))


def test_a_wide_name_takes_two_columns_a_letter():
    report = fake_report()
    plain = table_of(report)
    for split in report["splits"].values():
        split["groups"][0]["name"] = "左"
    changed = table_of(report)
    row = next(line for line in changed if line.startswith("左"))
    assert row.replace("左", "left", 1).replace("  ", "", 1) in plain


@pytest.mark.parametrize(("tolerance", "marks"), [(0.03, 0), (0.025, 6), (0.0, 6), (1.0, 0)])
def test_the_table_marks_what_exceeds_the_tolerance(tolerance, marks):
    lines = table_of(fake_report(tolerance=tolerance))
    assert sum(line.count("!") for line in lines[: lines.index("")]) == marks


def test_at_most_twelve_groups_unless_verbose():
    report, _ = judged_report(sizes=(40,) * 30)
    lines = table_of(report)
    shown = [line for line in lines if line.startswith("group ")][1:]
    assert len(shown) == 12 and "… and 18 more groups; --verbose lists all" in lines
    everything = table_of(report, verbose=True)
    assert sum(line.startswith("group ") for line in everything) == 31


def test_another_rule_than_the_last_iterate_is_named():
    assert "rule" not in text(selection="last")
    assert "chosen by the rule `average`; report.json has the last iterate (epoch 11) as well." in (
        text(selection="average")
    )


def stuck(size):
    """Feasibility of so many constraints, none of which is met."""
    history = reporting.History()
    for epoch in range(10):
        history.add(epoch, np.full(size, 0.1 * epoch), 0.1 + np.arange(size) / size)
    return reporting.feasibility(history, [f"g{i}" for i in range(size)])


def test_the_table_says_whether_the_constraints_could_be_met():
    worst = ", ".join(f"g{i} (not feasible as trained)" for i in (6, 5, 4, 3, 2))
    assert text(feasibility=stuck(7)).endswith(
        "Constraints as observed in training: not feasible as trained; 7 not met, the worst: "
        f"{worst}."
    )
    met = {"status": "met", "constraints": [{"name": "a", "status": "met"}]}
    assert text(feasibility=met).endswith(" Constraints as observed in training: met.")


def test_the_table_counts_constraints_that_are_not_listed():
    assert "; 1500 not met, the worst: g1499 (not" in text(feasibility=stuck(1500))


def test_the_table_says_why_a_constraint_was_never_observed():
    result = reporting.feasibility(reporting.History(), "ab")
    assert (
        "Constraints as observed in training: not observed. Never observed: 2 constraints: a, b. A "
        "constraint is observed once"
    ) in text(feasibility=result)
    assert text(feasibility=result).endswith("or lower constraint.buffer_size.")
    result = reporting.feasibility(reporting.History(), "ab", left_out="a")
    found = text(feasibility=result, unconstrained_groups={"a": 3})
    assert "Never observed: 1 constraint: b. " in found


def test_the_table_says_that_some_constraints_were_observed():
    history = reporting.History()
    history.add(0, np.zeros(2), np.array([-0.1, np.nan]))
    assert (
        "Constraints as observed in training: met where observed. Never observed: 1 constraint: b. "
    ) in text(feasibility=reporting.feasibility(history, "ab"))


def test_the_table_names_groups_too_small_to_constrain():
    small = {f"g{i}": i for i in range(12)}
    listed = ", ".join(f"g{i} ({i})" for i in range(10))
    assert text(unconstrained_groups=small).endswith(
        f"Too small to constrain: 12 groups. Training samples of each: {listed} and 2 more."
    )
    smallest = "The smallest group has 5 validation samples: one more error lowers its accuracy by"
    assert text(True, unconstrained_groups={}).endswith(f"{smallest} 20.0 points.")
    assert smallest not in text(unconstrained_groups={})


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "Ran on 1 cpu device; data on the device; one program for each epoch."),
        (
            {"devices": 4, "processes": 2, "epoch": "loop", "data": "streamed"},
            "Ran on 4 cpu devices of 2 processes; data streamed; one program for each step.",
        ),
    ],
)
def test_the_table_says_how_the_run_was_executed(changes, note):
    execution = {
        "backend": "cpu",
        "devices": 1,
        "processes": 1,
        "epoch": "device",
        "data": "on the device",
    }
    assert text(True, execution=execution | changes).endswith(note)
    assert note not in text(execution=execution | changes)
