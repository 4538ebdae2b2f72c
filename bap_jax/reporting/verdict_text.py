"""The verdict of a split in words, from what `report.json` holds of it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bap_jax.audit import tango
from bap_jax.audit.numbers import count, tolerance
from bap_jax.audit.result import Audit, BayesMax, Chance, GroupResult, Overall, Skipped
from bap_jax.audit.text import sentence
from bap_jax.reporting.verdicts import ALPHA, MIN_GROUP_SIZE, NOT_ASSESSED

_SAMPLES = {"train": "training samples"}


def samples_of(split: str) -> str:
    """What the samples of a split are called, in the plural."""
    return _SAMPLES.get(split, f"{split} samples")


def verdict_sentence(report: Mapping[str, Any], split: str) -> str:
    """The verdict on one split in a sentence, or why there is none.

    Args:
      report: as in `report.json`.
      split: its name.
    """
    numbers = report["splits"][split]
    audit = audit_of_split(numbers, report["tolerance"])
    if audit is not None:
        return sentence(audit, samples_of(split))
    where = count(numbers["n"], samples_of(split).removesuffix("s"), samples_of(split))
    epsilon = tolerance(report["tolerance"])
    return f"Not assessed at ε = {epsilon} on {where}: {numbers['why_not_assessed']}"


def audit_of_split(split: Mapping[str, Any], tolerance: float) -> Audit | None:
    """The audit that the report of a split was made from, as far as the report holds it.

    Names of groups stand alone, without attributes; the maxima by chance and the samples that each
    single group would need are left out.

    Args:
      split: what `report.json` holds of it.
      tolerance: ε of the run.

    Returns:
      None if the split was not assessed.
    """
    if split["verdict"] == NOT_ASSESSED:
        return None
    assessed = [group for group in split["groups"] if group["verdict"] != NOT_ASSESSED]
    small = [group for group in split["groups"] if group["verdict"] == NOT_ASSESSED]
    rows = [
        GroupResult(attribute="", samples_needed=None, **{name: group[name] for name in _COPIED})
        for group in sorted(assessed, key=lambda group: -group["excess_gap"])
    ]
    return Audit(
        tolerance=tolerance,
        alpha=ALPHA,
        min_group_size=MIN_GROUP_SIZE,
        overall=_overall(split),
        verdict=split["verdict"],
        lower=split["lower"],
        certifiable_tolerance=split["certifiable_tolerance"],
        deciding_group=split["deciding_group"],
        samples_needed=split["samples_needed"],
        max_excess_gap=split["assessed_max_excess_gap"],
        chance=Chance(split["expected_by_chance"], split["p_value"], np.zeros(0)),
        spread=split["spread"],
        bayes_max=BayesMax(**split["bayes_max"]),
        groups=tuple(rows),
        not_assessed=tuple(Skipped("", group["name"], group["n"]) for group in small),
        missing={},
    )


_COPIED = [name for name in GroupResult._fields if name not in ("attribute", "samples_needed")]


def _overall(split) -> Overall:
    n, harmed, helped = (split[name] for name in ("n", "harmed", "helped"))
    return Overall(
        n=n,
        dense_accuracy=split["dense_accuracy"],
        sparse_accuracy=split["sparse_accuracy"],
        gap=split["overall_gap"],
        lower=float(tango.lower_limit(harmed, helped, n, ALPHA)),
        upper=float(tango.upper_limit(harmed, helped, n, ALPHA)),
        harmed=harmed,
        helped=helped,
        flip_rate=split["flip_rate"],
    )
