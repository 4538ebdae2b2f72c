"""UTKFace: 23,705 aligned faces whose file names give age, gender and race.

    AGE_GENDER_RACE_DATE.jpg.chip.jpg       gender 0 male, 1 female; race 0 … 4

The paper's test split: sort the names, leave out those that do not give all three, draw a fifth
with the seed 1357.
"""

import re

import numpy as np
from absl import logging

from bap_jax.data.listing import MADE_UP, Listing, files_below, find_folder
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
AGE_EDGES = (10, 15, 20, 25, 30, 40, 50, 60)
AGES = ("0-9", "10-14", "15-19", "20-24", "25-29", "30-39", "40-49", "50-59", "60+")
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_")
_EXPECTED = "files named AGE_GENDER_RACE_DATE.jpg.chip.jpg in DIR, DIR/UTKFace or folders below it"
_ENDINGS = (".jpg", ".jpeg", ".png")
_NUM_FACES = 23_705
_ORIGIN = "the UTKFace page, under 'Aligned&Cropped Faces'"


def list_utkface(root: str) -> Listing:
    """Lists the faces; attributes `gender`, `race` and `age` (nine groups, the paper's edges).

    Args:
      root: the folder UTKFace, or the one that holds it.

    Raises:
      UserError: there are no such files.
    """

    def missing_files(folder):
        has_faces = any(_NAME.match(path.name) for path in files_below(folder, _ENDINGS))
        return [] if has_faces else ["such names"]

    folder = find_folder(root, _EXPECTED, _ORIGIN, missing_files=missing_files, named="UTKFace")
    paths, skipped = _unique_names(list(files_below(folder, _ENDINGS)))
    matches = [_NAME.match(path.name) for path in paths]
    skipped += [
        f"{path.name}: the name does not give age, gender (0, 1) and race (0 … 4)"
        for path, match in zip(paths, matches, strict=True)
        if not match
    ]
    faces = [path for path, match in zip(paths, matches, strict=True) if match]
    if len(faces) < 2:
        raise UserError(f"--data_dir={root} holds {len(faces)} faces: expected {_EXPECTED}.")
    if len(faces) != _NUM_FACES and not (folder / MADE_UP).exists():
        logging.warning(
            "UTKFace has %s faces, %s holds %s: the test split is drawn as in the paper, but it "
            "will differ from the paper's.",
            f"{_NUM_FACES:,}",
            folder,
            f"{len(faces):,}",
        )
    numbers = np.array([match.groups() for match in matches if match], np.int64)
    return Listing.from_paths(
        faces, _attributes(numbers), splits=_paper_splits(len(faces)), skipped=skipped
    )


def _unique_names(paths):
    """The first file of each name, and which others are skipped."""
    unique = list({path.name: path for path in reversed(paths)}.values())[::-1]
    others = sorted(set(paths) - set(unique))
    return unique, [f"{path}: another file has this name" for path in others]


def _attributes(numbers):
    """Groupings by name from `(sample, 3)` numbers in the names of the files."""
    age, gender, race = numbers.T
    columns = {
        "gender": (gender, GENDERS),
        "race": (race, RACES),
        "age": (np.digitize(age, AGE_EDGES), AGES),
    }
    return {
        name: Grouping(ids.astype(np.int32)[:, None], group_names)
        for name, (ids, group_names) in columns.items()
    }


def _paper_splits(count):
    """`(sample,)` int8 index into `SPLITS`."""
    splits = np.zeros(count, np.int8)
    splits[np.random.RandomState(1357).permutation(count)[: int(0.2 * count)]] = 2
    return splits
