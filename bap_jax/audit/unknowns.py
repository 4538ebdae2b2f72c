"""What an audit cannot say, in plain words, for the verdict at hand."""

from typing import TYPE_CHECKING

from bap_jax.audit.labels import namer
from bap_jax.audit.numbers import count, interval, level, points
from bap_jax.audit.numbers import tolerance as tolerance_words
from bap_jax.audit.svg.marks import shorten
from bap_jax.audit.text import deciding, rounded

if TYPE_CHECKING:
    from bap_jax.audit.result import Audit

NAMED, LONGEST_NAME = 5, 60


def unknowns(audit: "Audit", digits: int) -> list[tuple[str, str]]:
    """Limits of this audit, each with a few words in front that say what it is about."""
    found = [_verdict(audit, digits)]
    found += _undecided_groups(audit)
    found += _absent_groups(audit)
    return [*found, *_always(audit)]


def _verdict(audit, digits):
    epsilon = tolerance_words(audit.tolerance)
    if audit.verdict == "satisfied":
        return (
            "What “satisfied” does not say",
            "It does not say that nobody lost accuracy. All samples together lost "
            f"{points(audit.overall.gap, digits)} points, and each group may have lost up to "
            f"{epsilon} more than that. If in truth some group lies beyond the tolerance, an audit "
            f"like this one overlooks it in at most {level(audit.alpha)} of cases.",
        )
    if audit.verdict == "violated":
        return (
            "What “violated” does not say",
            f"At least one group lost more than {epsilon} beyond the whole; that this is mere "
            f"chance would happen in at most {level(audit.alpha)} of audits. It does not say "
            "why, nor that the groups whose verdict is not “violated” are unharmed. "
            "Certifiable is the smallest tolerance that these samples would satisfy.",
        )
    return (
        "What “undecided” does not say",
        "It is neither evidence that all groups are within the tolerance nor that one is beyond "
        "it. With these samples the largest true excess gap can lie anywhere from "
        f"{interval(max(audit.lower, 0.0), audit.certifiable_tolerance, digits)} points; "
        "the upper end is certifiable, the smallest tolerance that these samples would satisfy. "
        + _needed(audit),
    )


def _needed(audit):
    if audit.samples_needed is None:
        return (
            "At a tolerance of 0 no number of samples can show that a gap of exactly 0 is within "
            "it; choose the largest gap that would be acceptable."
        )
    group = deciding(audit)
    name = shorten(namer(audit)(group), LONGEST_NAME)
    return (
        f"It depends on the group {name}, which has {count(group.n, 'sample')}: about "
        f"{rounded(audit.samples_needed)} would show four times in five that it is within the "
        "tolerance, if in truth it lost no more than the whole."
    )


def _undecided_groups(audit):
    open_groups = [g for g in audit.groups if g.verdict == "undecided"]
    if not open_groups:
        return []
    number = f"{count(len(open_groups))} of {count(len(audit.groups), 'group')}"
    names = _names(open_groups, namer(audit))
    return [
        (
            "Undecided groups",
            f"Taken alone, {number} can be called neither within the tolerance nor beyond it: "
            f"{names}. The table of all groups says how many samples each would need.",
        )
    ]


def _absent_groups(audit):
    found = []
    if audit.not_assessed:
        samples = sum(skipped.n for skipped in audit.not_assessed)
        verb = "was" if len(audit.not_assessed) == 1 else "were"
        found.append(
            (
                "Groups too small",
                f"{count(len(audit.not_assessed), 'group')} with fewer than "
                f"{count(audit.min_group_size, 'sample')} ({count(samples, 'sample')} in all) "
                f"{verb} not assessed. Nothing here says how they fare, and the verdict leaves "
                "them out.",
            )
        )
    missing = {name: number for name, number in audit.missing.items() if number}
    if missing:
        parts = [
            f"{count(number, 'sample')}" + (f" ({name})" if name else "")
            for name, number in missing.items()
        ]
        found.append(
            (
                "Missing values",
                f"No group was recorded for {', '.join(parts)}. They are compared as a group of "
                "their own, named “missing”; to which groups they belong is not known.",
            )
        )
    return found


def _names(groups, named):
    names = [shorten(named(group), LONGEST_NAME) for group in groups[:NAMED]]
    rest = len(groups) - len(names)
    return ", ".join(names) + (f" and {count(rest)} more" if rest else "")


def _always(audit):
    return [
        (
            "Groups that were not recorded",
            "Only the groups listed here were compared. A group that nobody recorded, a part of a "
            "group, or a combination of attributes that was not asked for may fare worse.",
        ),
        (
            "Two models, not a recipe",
            "Each sample was judged once by each of these two models. Training or pruning again "
            "gives other models, and this report says nothing about them.",
        ),
        (
            "Only right or wrong",
            "Every mistake counts the same here. Which mistakes are made, how sure the models are "
            "and what a mistake costs whom is not looked at.",
        ),
        (
            "Other samples than in use",
            "The limits hold for samples drawn independently from the people or cases on which the "
            "model will be used. They are too optimistic if use differs from these samples, if "
            "several samples stem from one person, or if these samples helped to choose the model.",
        ),
        (
            "Estimates",
            "The shrunken gaps, the spread and the estimated largest gap suppose that the true "
            "gaps scatter like a bell curve. They can miss a single bad group and are no part of "
            "the verdict.",
        ),
        (
            "The dense model itself",
            "Everything is relative to the dense model. Whether that one is good enough, or fair, "
            "is another question; and if it was itself compressed from another, losses add up.",
        ),
    ]
