"""UTKFace: 23,705 aligned faces whose file names tell age, gender and race.

    AGE_GENDER_RACE_DATE.jpg.chip.jpg       gender 0 male, 1 female; race 0 … 4

The paper's test split: names sorted, those that do not tell all three left out, a fifth drawn with
the seed 1357.
"""

import re

import numpy as np
from absl import logging

from bap_jax.data.listing import MADE_UP, Listing, files_below, files_told, find_folder
from bap_jax.groups import Grouping
from bap_jax.types import UserError

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
AGE_EDGES = (10, 15, 20, 25, 30, 40, 50, 60)
AGES = ("0-9", "10-14", "15-19", "20-24", "25-29", "30-39", "40-49", "50-59", "60+")
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_")
_WANTED = "files named AGE_GENDER_RACE_DATE.jpg.chip.jpg in DIR, DIR/UTKFace or folders below it"
_ENDINGS = (".jpg", ".jpeg", ".png")
_WHOLE = 23_705
_ORIGIN = "the UTKFace page, under 'Aligned&Cropped Faces'"


def list_utkface(root: str) -> Listing:
    """Finds the faces; attributes `gender`, `race` and `age` (nine groups, the paper's edges).

    Args:
      root: the folder UTKFace, or the one that holds it.

    Raises:
      UserError: there are no such files.
    """

    def lacks(folder):
        found = any(_NAME.match(path.name) for path in files_below(folder, _ENDINGS))
        return [] if found else ["such names"]

    folder = find_folder(root, _WANTED, _ORIGIN, lacks=lacks, named="UTKFace")
    every = list(files_below(folder, _ENDINGS))
    files = list({path.name: path for path in reversed(every)}.values())[::-1]
    skipped = [f"{p}: another file has this name" for p in sorted(set(every) - set(files))]
    matches = [_NAME.match(path.name) for path in files]
    skipped += [
        f"{path.name}: the name does not tell age, gender (0, 1) and race (0 … 4)"
        for path, match in zip(files, matches, strict=True)
        if not match
    ]
    files = [path for path, match in zip(files, matches, strict=True) if match]
    if len(files) < 2:
        raise UserError(f"--data_dir={root} holds {len(files)} faces: expected {_WANTED}.")
    if len(files) != _WHOLE and not (folder / MADE_UP).exists():
        logging.warning(
            "UTKFace has %s faces, %s holds %s: the test split is drawn as the paper does, and is "
            "another one.",
            f"{_WHOLE:,}",
            folder,
            f"{len(files):,}",
        )
    told = np.array([match.groups() for match in matches if match], np.int64)
    age, gender, race = told[:, 0], told[:, 1], told[:, 2]
    columns = {
        "gender": (gender, GENDERS),
        "race": (race, RACES),
        "age": (np.digitize(age, AGE_EDGES), AGES),
    }
    return Listing(
        [path.name for path in files],
        {k: Grouping(ids.astype(np.int32)[:, None], names) for k, (ids, names) in columns.items()},
        lambda i: str(files[i]),
        _paper_splits(len(files)),
        *files_told(files),
        skipped,
    )


def _paper_splits(count):
    splits = np.zeros(count, np.int8)
    splits[np.random.RandomState(1357).permutation(count)[: int(0.2 * count)]] = 2
    return splits
