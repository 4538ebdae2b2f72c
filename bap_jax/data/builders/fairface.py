"""FairFace: 97,698 faces with seven races, two genders and nine ages.

    fairface_label_train.csv, fairface_label_val.csv     file,age,gender,race,service_test
    train/1.jpg … , val/1.jpg …                          images with a margin of 0.25

The official validation split is the test split here, as in the paper.
"""

from pathlib import Path

import numpy as np

from bap_jax.data.columns import read_table
from bap_jax.data.listing import Listing, find_folder
from bap_jax.errors import UserError
from bap_jax.groups import Grouping

RACES = (
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
)
GENDERS = ("Male", "Female")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
TABLES = {"fairface_label_train.csv": 0, "fairface_label_val.csv": 2}
# Spreadsheets turn two of the ages into dates.
_AGES_AS_DATES = {"03-Sep": "3-9", "3-Sep": "3-9", "Oct-19": "10-19"}
_COLUMNS = {"gender": GENDERS, "race": RACES, "age": AGES}
_EXPECTED = (
    "fairface_label_train.csv and fairface_label_val.csv next to the folders train and val of the "
    "0.25-margin images"
)
_ORIGIN = "the FairFace repository, 'Padding=0.25' and its labels"


def list_fairface(root: str) -> Listing:
    """Lists the faces; attributes `gender`, `race` and `age`.

    Args:
      root: the folder that holds the label tables.

    Raises:
      UserError: files are missing, or a table lacks a column or holds an unknown value.
    """
    folder = find_folder(
        root,
        _EXPECTED,
        _ORIGIN,
        missing_files=lambda place: [name for name in TABLES if not (place / name).is_file()],
    )
    names, splits, skipped = [], [], []
    columns = {name: [] for name in _COLUMNS}
    for table, split in TABLES.items():
        for row in _rows(folder / table):
            if not (folder / row["file"]).is_file():
                skipped.append(f"{row['file']}: there is no such file")
                continue
            names.append(row["file"])
            splits.append(split)
            for column, known in _COLUMNS.items():
                columns[column].append(_id_of(row[column], known, column, folder / table))
    if not names:
        raise UserError(f"{folder} holds none of the images of its tables; expected {_EXPECTED}.")
    attributes = {
        name: Grouping(np.array(ids, np.int32)[:, None], _COLUMNS[name])
        for name, ids in columns.items()
    }
    return Listing.from_paths(
        [folder / name for name in names],
        attributes,
        names=names,
        splits=np.array(splits, np.int8),
        skipped=skipped,
    )


def _rows(table: Path):
    """Yields the rows of a table as mappings from column to text."""
    columns = read_table(table, ("file", *_COLUMNS)).columns
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        yield dict(zip(names, cells, strict=True))


def _id_of(value, known, column, table):
    value = _AGES_AS_DATES.get(value.strip(), value.strip())
    if value not in known:
        raise UserError(f"{table}: unknown {column} {value!r}; known are {', '.join(known)}.")
    return known.index(value)
