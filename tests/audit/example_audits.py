"""Audits of all kinds that a report must be able to show, from counts that are written down."""

import functools

import numpy as np

from bap_jax.audit import counts
from bap_jax.audit.assessment import compare, from_counts

SCRIPT = "<script>alert(1)</script>\"'🙂"
LONG = "x" * 200
HOSTILE = (SCRIPT, LONG, "</title></style><b>", "{{ 7 * 7 }}", "long words " * 18 + "end", "مجموعة")


def counted(names, n, harmed, helped, **settings):
    """An audit of groups of `n` samples, of which the dense model has 80 % right."""
    n, harmed, helped = (np.broadcast_to(column, len(names)) for column in (n, harmed, helped))
    table = counts.of_groups(n, harmed, helped, n * 8 // 10 - harmed, names)
    settings = {"tolerance": 0.01, "permutations": 500, **settings}
    return from_counts(table, **settings)


def undecided(groups=10):
    rng = np.random.default_rng(0)
    names = [str(i) for i in range(groups)]
    return counted(names, 54, rng.integers(0, 6, groups), rng.integers(0, 6, groups))


def satisfied():
    return counted(
        ["Asian", "Black", "White", "tiny", SCRIPT],
        [4000, 5000, 6000, 3, 29],
        [40, 60, 60, 0, 0],
        [40, 50, 65, 0, 0],
        tolerance=0.02,
    )


def violated():
    return counted(["women", "men", "unknown"], [2000, 2500, 900], [300, 60, 20], [30, 60, 20])


def without_flips():
    return counted(list("abcde"), 200, 0, 0)


def hostile():
    return counted(HOSTILE, [90, 80, 70, 60, 95, 85], [9, 1, 3, 4, 2, 6], [1, 9, 3, 2, 4, 2])


def several_attributes():
    rng = np.random.default_rng(1)
    dense = rng.random(900) < 0.9
    sparse = np.where(rng.random(900) < 0.06, ~dense, dense)
    groups = {
        "race": rng.choice(np.array(["Asian", "Black", "White", None]), 900),
        "gender": rng.choice(["f", "m"], 900),
    }
    return compare(dense, sparse, groups, tolerance=0.02, permutations=200)


@functools.cache
def huge():
    """10,000 groups, and 300 that are too small."""
    rng = np.random.default_rng(2)
    names = [f"group {i}" for i in range(10_300)]
    n = np.r_[rng.integers(60, 140, 10_000), np.arange(300) % 29 + 1]
    flips = [np.where(n < 30, 0, rng.binomial(n, 0.05)) for _ in range(2)]
    return counted(names, n, *flips, permutations=20)


AUDITS = {
    "undecided": undecided,
    "two": lambda: counted(["women", "men"], [400, 350], [20, 30], [25, 18]),
    "hundred": lambda: undecided(100),
    "satisfied": satisfied,
    "violated": violated,
    "without flips": without_flips,
    "tolerance 0": lambda: counted(list("abc"), 100, [3, 4, 9], [5, 4, 3], tolerance=0.0),
    "hostile": hostile,
    "several attributes": several_attributes,
    "counts alone": lambda: from_counts(
        counts.of_groups([200, 300], [10, 12], [8, 9]), tolerance=0.01, permutations=100
    ),
}
