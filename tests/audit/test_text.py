"""An audit in words: the sentence of each verdict, and the text for a terminal."""

import numpy as np
import pytest

from bap_jax._tables.shown import clipped
from bap_jax.audit.result import Audit, BayesMax, Chance, GroupResult, Overall, Skipped
from bap_jax.audit.text import format_audit, rounded, sentence


def group(name, lower, upper, verdict="undecided", *, n=54, attribute="", excess=0.02):
    return GroupResult(
        attribute, name, n, 3, 1, 0.9615, 0.9038, 0.04, excess, lower, upper, 0.004, verdict, 2487
    )


WORST = group("1", -0.012, 0.09, excess=0.037)
WIDEST = group("2", -0.019, 0.1211)
BEST = group("3", -0.05, 0.002, "satisfied", excess=-0.02)


def audit(**changes):
    """An undecided audit of three groups, with some fields replaced."""
    fields = {
        "tolerance": 0.01,
        "alpha": 0.05,
        "min_group_size": 30,
        "overall": Overall(540, 0.9704, 0.95, 0.0204, 0.006, 0.035, 20, 9, 29 / 540),
        "verdict": "undecided",
        "lower": -0.03,
        "certifiable_tolerance": 0.1211,
        "deciding_group": "2",
        "samples_needed": 2487,
        "max_excess_gap": 0.037,
        "chance": Chance(0.034, 0.37, np.zeros(3)),
        "spread": 0.0,
        "bayes_max": BayesMax(0.008, 0.001, 0.022),
        "groups": (WORST, WIDEST, BEST),
        "not_assessed": (),
        "missing": {},
    }
    return Audit(**fields | changes)


def test_undecided_says_what_would_decide():
    assert sentence(audit()) == (
        "Undecided at ε = 1 point on 540 test samples: group 2 lost between −1.9 and 12.1 points "
        "more than the whole. Certifiable: 12.1. A decision needs about 2,500 samples a group."
    )


def test_satisfied_names_the_closest_group():
    closest = group("2", -0.002, 0.0081, "satisfied", n=5400)
    found = audit(
        verdict="satisfied",
        certifiable_tolerance=0.0081,
        groups=(closest, BEST),
        overall=Overall(54000, 0.97, 0.97, 0.0, 0.0, 0.0, 20, 20, 40 / 54000),
    )
    assert sentence(found, "validation samples") == (
        "Satisfied at ε = 1 point on 54,000 validation samples: no group lost more than 0.8 points "
        "more than the whole; the closest, group 2, lost between −0.2 and 0.8."
    )


@pytest.mark.parametrize(
    ("others", "also"),
    [
        ((), ""),
        (("4",), ", and group 4 lost too much as well"),
        (("4", "5"), ", and groups 4, 5 lost too much as well"),
        (tuple("456789"), ", and groups 4, 5, 6, 7, 8 and 1 more lost too much as well"),
    ],
)
def test_violated_says_at_least_how_much(others, also):
    rows = [group(name, 0.03, 0.09, "violated") for name in ("2", *others)]
    assert sentence(audit(verdict="violated", lower=0.032, groups=(*rows, BEST))) == (
        f"Violated at ε = 1 point on 540 test samples: group 2 lost at least 3.2 points more than "
        f"the whole{also}. Certifiable: 12.1."
    )


def test_no_flips_are_mentioned():
    same = Overall(60, 0.9, 0.9, 0.0, -0.04, 0.04, 0, 0, 0.0)
    assert sentence(audit(overall=same, tolerance=0.005)).startswith(
        "Undecided at ε = 0.5 points on 60 test samples, of which both models get exactly the same "
        "ones right: group 2 lost between"
    )


def test_samples_that_are_there_already_are_not_asked_for():
    assert sentence(audit(samples_needed=41)).endswith(
        "About 41 samples a group would do if none had lost more than the whole; this one has 54."
    )
    assert "no number of samples can decide" in sentence(audit(samples_needed=None, tolerance=0.0))


def test_groups_not_assessed_are_counted_in_the_sentence_and_named_in_the_text():
    found = audit(not_assessed=(Skipped("", "tiny", 3),), missing={"": 4})
    assert sentence(found).endswith(" Not assessed, with fewer than 30 samples: 1 group.")
    lines = format_audit(found).splitlines()
    assert lines[-2] == "Not assessed, fewer than 30 samples: tiny (3)."
    assert lines[-1] == "Without a value of the group: 4 samples, the group “missing”."
    more = audit(not_assessed=tuple(Skipped("", f"t{i}", i) for i in range(12)))
    assert sentence(more).endswith("fewer than 30 samples: 12 groups.")
    assert format_audit(more).endswith("t9 (9) and 2 more.")
    assert "t11 (11)." in format_audit(more, verbose=True)


def test_groups_of_several_attributes_are_told_apart():
    rows = (
        group("other", -0.012, 0.05, attribute="race"),
        group("other", -0.019, 0.1211, attribute="age"),
    )
    found = audit(groups=rows, deciding_group="age=other")
    assert "group age=other lost between −1.9 and 12.1" in sentence(found)
    assert "race=other" in format_audit(found)


def test_limits_are_shown_on_their_side_of_the_tolerance():
    for upper, shown in (
        (0.01004, "between −0.200 and 1.004 points"),
        (0.0096, "between −0.20 and 0.96 points"),
        (0.01, "between −0.2 and 1.0 points"),
    ):
        rows = (group("2", -0.002, upper),)
        assert shown in sentence(audit(groups=rows, certifiable_tolerance=upper))


def test_levels_are_not_rounded():
    assert "its 97.5 % limits" in format_audit(audit(alpha=0.025))
    assert "its 99.95 % limits" in format_audit(audit(alpha=0.0005))


def test_names_cannot_write_over_the_terminal():
    rows = (group("a\x1b[2J\rb\n", -0.019, 0.1211),)
    text = format_audit(audit(groups=rows, deciding_group=rows[0].name), verbose=True)
    assert r"a\x1b[2J\rb\n" in text and not {"\x1b", "\r"} & set(text)


def test_letters_of_two_columns_and_of_none_keep_the_table_aligned():
    names = ("日本", "naïve", "nai\u0308ve")
    rows = tuple(group(name, -0.019, 0.1211) for name in names)
    text = format_audit(audit(groups=rows, deciding_group=rows[0].name))
    shown = [line for line in text.splitlines() if line.startswith(names)]
    assert [line.removesuffix(shown[1][5:]) for line in shown] == ["日本 ", "naïve", "nai\u0308ve"]


def test_many_groups_of_which_some_limit_is_close_to_the_tolerance_need_no_more_decimals():
    rows = [group(str(i), -0.05, 0.05 - 1e-5 * i) for i in range(10_000)]
    found = audit(groups=tuple(rows), deciding_group="0", certifiable_tolerance=0.05)
    assert "between −5.0 and 5.0 points" in sentence(found)


def test_a_group_that_alone_would_be_violated_says_why_it_is_undecided():
    rows = (group("2", 0.03, 0.1211), group("3", -0.03, 0.02))
    found = sentence(audit(groups=rows, deciding_group="2", lower=0.002))
    assert "lost between 3.0 and 12.1 points more than the whole; taken alone that is " in found
    assert "above ε, but with allowance for picking the worst of 2 groups, the lower limit" in found
    assert "limit is 0.2. " in found


def test_narrow_limits_have_decimals():
    close = group("2", -0.0001, 0.00021, "satisfied", n=8_000_000)
    found = audit(
        verdict="satisfied", groups=(close,), certifiable_tolerance=0.00021, lower=-0.0002
    )
    assert "no group lost more than 0.021 points more than the whole" in sentence(found)


def test_a_model_that_became_more_accurate_has_gained():
    better = Overall(540, 0.9, 0.94, -0.04, -0.06, -0.02, 5, 27, 0.06)
    text = format_audit(audit(overall=better))
    assert "90.00 % → 94.00 %, gained 4.0 points (2.0 to 6.0)" in text


def test_one_sample_is_singular():
    one = Overall(1, 1.0, 1.0, 0.0, -1.0, 1.0, 1, 0, 1.0)
    assert " on 1 test sample: " in sentence(audit(overall=one))


TEXT = """\
Undecided at ε = 1 point on 540 test samples: group 2 lost between −1.9 and 12.1
points more than the whole. Certifiable: 12.1. A decision needs about 2,500
samples a group.

accuracy            97.04 % → 95.00 %, lost 2.0 points (0.6 to 3.5)
flips               5.4 % of 540 samples: 20 harmed, 9 helped
largest excess gap  3.7 points, group 1 (the largest upper limit: group 2);
                    chance alone: 3.4 (p = .37)
true largest gap    0.8 points, estimated (0.1 to 2.2); spread over groups 0.0

group       n  harmed  helped   dense  sparse  excess   lower   upper  verdict
--------------------------------------------------------------------------------
1          54       3       1    96.2    90.4     3.7    −1.2     9.0  undecided
2          54       3       1    96.2    90.4     2.0    −1.9    12.1  undecided
3          54       3       1    96.2    90.4    −2.0    −5.0     0.2  satisfied

Harmed: dense right and sparse wrong; helped: the opposite. Excess: points lost
beyond the loss of the whole; lower and upper: its 95 % limits, each one-sided.
Certifiable: the smallest tolerance that these samples would satisfy."""


def test_the_text_as_a_whole():
    assert format_audit(audit()) == TEXT


def test_two_groups_that_are_largest_in_different_ways_are_told_apart():
    """One has the largest estimate, the verdict is about another."""
    assert "3.7 points, group 1 (the largest upper limit: group 2);" in format_audit(audit())
    rows = [row._replace(verdict="violated") for row in (WORST, WIDEST)]
    found = format_audit(audit(verdict="violated", lower=0.02, groups=(*rows, BEST)))
    assert "3.7 points, group 1 (the verdict rests on group 2);" in found
    assert "3.7 points, group 1; chance" in format_audit(audit(deciding_group="1"))


def test_the_text_shows_the_worst_groups_and_the_deciding_one():
    rows = [group(f"group-{i:02}", -0.01, 0.05) for i in range(29)]
    found = audit(groups=(*rows, WIDEST))
    shown = [line for line in format_audit(found).splitlines() if line.endswith("undecided")]
    assert [line.split()[0] for line in shown] == [row.name for row in rows[:12]] + ["2"]
    assert "… and 17 more groups" in format_audit(found)
    whole = format_audit(found, verbose=True).splitlines()
    assert sum(line.endswith("undecided") for line in whole) == 30
    assert any(line.endswith("upper  shrunken  needed  verdict") for line in whole)


def test_the_text_fits_a_terminal():
    rows = tuple(group("x" * 50 + str(i), -0.01, 0.05) for i in range(20))
    found = audit(groups=rows, deciding_group=rows[0].name)
    table = [line for line in format_audit(found).splitlines() if "…" in line]
    assert len(table) == 13 and max(map(len, table)) <= 100
    assert "x" * 50 in format_audit(found, verbose=True)


@pytest.mark.parametrize(
    ("name", "shown"), [("abc", "abc"), ("abcdefghij", "abcdefghij"), ("abcdefghijk", "abcdef…ijk")]
)
def test_long_names_keep_both_ends(name, shown):
    assert clipped(name, 10) == shown


@pytest.mark.parametrize(("n", "shown"), [(7, "7"), (99, "99"), (2487, "2,500"), (15465, "15,000")])
def test_two_digits_are_enough(n, shown):
    assert rounded(n) == shown
