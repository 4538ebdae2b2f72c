"""Made-up people in the file layout of the census data, to try a whole run in seconds.

Income follows from education, age and weeks worked, and more loosely for some groups than for
others. They say nothing about any real person.
"""

import csv
from pathlib import Path

import numpy as np

_EDUCATIONS = ("10th grade", "High school graduate", "Some college but no degree", "Doctorate")
_RACES = ("Amer Indian Aleut or Eskimo", "Asian or Pacific Islander", "Black", "Other", "White")
_SEXES = ("Female", "Male")
_CLASSES = ("Private", "Local government", "Self-employed-incorporated")


def write_census(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes `count` people into the two files of the UCI repository, a third into the test file.

    Every combination of sex, race and income takes its turn.
    """
    people = [_person(rng, i) for i in range(count)]
    for name, rows in (
        ("census-income.data", people[: count - count // 3]),
        ("census-income.test", people[count - count // 3 :]),
    ):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [f" {cell}" if i else cell for i, cell in enumerate(row)] for row in rows
            )


def _person(rng, i):
    """42 cells; whether the person earns much is the last bit of `i`."""
    earns_much, i = i % 2, i // 2
    row = ["Not in universe"] * 42
    noise = 2.0 if i % 2 else 0.5  # women's income follows less from the other columns
    level = 1.5 + 1.5 * (2 * earns_much - 1) + rng.normal(0, noise)
    age, weeks = 20 + int(rng.integers(50)), int(np.clip(26 + 8 * level, 1, 52))
    for place in (0, 5, 16, 17, 18, 24, 30, 36, 38):
        row[place] = "0"
    row[0], row[39] = str(age), str(weeks)
    row[1] = _CLASSES[rng.integers(len(_CLASSES))]
    row[4] = _EDUCATIONS[int(np.clip(level, 0, 3))]
    row[10], row[12] = _RACES[i // 2 % len(_RACES)], _SEXES[(i + 1) % 2]
    row[18] = str(max(0, int(500 * level)))
    row[40], row[41] = "95", ("50000+." if earns_much else "- 50000.")
    return row
