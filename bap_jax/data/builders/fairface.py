"""FairFace: 97,698 faces with seven races, two genders and nine ages.

    fairface_label_train.csv, fairface_label_val.csv     file,age,gender,race,service_test
    train/1.jpg … , val/1.jpg …                          images with a margin of 0.25

The official validation split is the test split here, as in the paper.
"""

import re

import numpy as np

from bap_jax._tables.names import MISSING
from bap_jax._tables.rows import first_rows
from bap_jax.data.columns import check_columns, read_table
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
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PART_OF_DATE = re.compile(r"[0-9]+|[a-z]{3,}")
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
      UserError: files are missing, or a table is damaged or lacks a column.
    """
    folder = find_folder(
        root,
        _EXPECTED,
        _ORIGIN,
        missing_files=lambda place: [name for name in TABLES if not (place / name).is_file()],
    )
    names, splits, skipped, places = [], [], [], []
    columns = {name: [] for name in _COLUMNS}
    for table, split in TABLES.items():
        cells, line = read_table(folder / table, ("file",))
        check_columns(folder / table, cells, _COLUMNS)
        for row, name in enumerate(cells["file"]):
            if not (folder / name).is_file():
                skipped.append(f"{name}: there is no such file")
                continue
            names.append(name)
            splits.append(split)
            places.append(f"{table}, line {line(row)}")
            for column in _COLUMNS:
                columns[column].append(cells[column][row])
    if not names:
        raise UserError(f"{folder} holds none of the images of its tables; expected {_EXPECTED}.")
    attributes, missing = _attributes(columns, places)
    return Listing.from_paths(
        [folder / name for name in names],
        attributes,
        names=names,
        splits=np.array(splits, np.int8),
        skipped=skipped,
        missing=missing,
    )


def _attributes(columns, places):
    """Groupings by name, and of each that holds other than the known values what is wrong.

    Samples with another value are in a group `missing`, so that they stop only runs that need it.
    """
    groupings, wrong = {}, {}
    for name, cells in columns.items():
        known = _COLUMNS[name]
        values = [age_of(cell) if name == "age" else cell for cell in cells]
        unknown = np.array([value not in known for value in values])
        if unknown.any():
            first = int(unknown.argmax())
            wrong[name] = (
                f"unknown {name} {cells[first]!r} in {int(unknown.sum())} of {len(cells)} rows "
                f"({first_rows(unknown, lambda row: places[row])}); known are {', '.join(known)}"
            )
        names = (*known, MISSING) if unknown.any() else known
        index = {value: i for i, value in enumerate(known)}
        ids = np.array([index.get(value, len(known)) for value in values], np.int32)
        groupings[name] = Grouping(ids[:, None], names)
    return groupings, wrong


def age_of(cell: str) -> str:
    """An age group, also where a spreadsheet has made a date of it.

    Example:
      >>> [age_of(cell) for cell in ("03-Sep", "9-Mar", "Oct-19", "19-Oct", "2019-10-01", "20-29")]
      ['3-9', '3-9', '10-19', '10-19', '10-19', '20-29']
    """
    if cell in AGES:
        return cell
    parts = _PART_OF_DATE.findall(cell.lower())
    numbers = {_number(part) % 100 for part in parts}  # of a year the last two digits
    dates = {"3-9": {3, 9}, "10-19": {10, 19}}
    return next((age for age, pair in dates.items() if pair <= numbers), cell)


def _number(part):
    return (
        int(part) if part.isdigit() else _MONTHS.index(part[:3]) + 1 if part[:3] in _MONTHS else 0
    )
