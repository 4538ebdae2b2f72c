"""A user's data: an .npz file, images with a table, any Python object."""

import logging as std_logging

import numpy as np
import pytest

from bap_jax import data
from bap_jax.data.images import encode_jpeg
from bap_jax.errors import UserError

COUNT = 24


def columns():
    i = np.arange(COUNT)
    return {
        "inputs": np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32),
        "label": i % 3,
        "race": np.array(["a", "b"])[i % 2],
        "split": np.array(["train", "train", "validation", "test"])[i // 2 % 4],
    }


def load_npz(tmp_path, **changes):
    arrays = {k: v for k, v in {**columns(), **changes}.items() if v is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    return data.load("npz", data.Request(str(tmp_path / "mine.npz")))


def test_arrays(tmp_path):
    found = load_npz(tmp_path)
    np.testing.assert_array_equal(found.inputs, columns()["inputs"])
    np.testing.assert_array_equal(found.labelled()[0], columns()["label"])
    assert found.attributes["race"].names == ("a", "b") and set(found.attributes) == {
        "race",
        "label",
    }
    np.testing.assert_array_equal(found.test_indices, [6, 7, 14, 15, 22, 23])
    np.testing.assert_array_equal(found.validation_indices, [4, 5, 12, 13, 20, 21])
    assert found.scale is None and found.preprocess() is None


def test_a_mask_of_the_test_split(tmp_path):
    found = load_npz(tmp_path, split=np.arange(COUNT) >= 20)
    np.testing.assert_array_equal(found.test_indices, [20, 21, 22, 23])
    assert found.validation_indices is None


def test_images_in_arrays_are_scaled_on_the_device(tmp_path):
    found = load_npz(tmp_path, inputs=np.full((COUNT, 8, 8, 3), 255, np.uint8))
    pixels = found.preprocess("flip")(found.inputs[:1], None, False)
    np.testing.assert_allclose(pixels[0, 0, 0], [2.2489, 2.4286, 2.64], rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8, 1), (1, 1, 1), (8, 8)])
def test_grey_images_in_arrays_are_scaled_too(shape, tmp_path):
    found = load_npz(tmp_path, inputs=np.full((COUNT, *shape), 255, np.uint8))
    np.testing.assert_allclose(found.preprocess("flip")(found.inputs[:1], None, False), 1)


def test_other_pixels_are_other_samples(tmp_path):
    inputs = np.zeros((COUNT, 3), np.float32)
    first, same = (load_npz(tmp_path, inputs=inputs).identity for _ in range(2))
    assert first == same != load_npz(tmp_path, inputs=inputs + 1).identity


def test_classes_that_no_sample_has_keep_their_places(tmp_path):
    found = load_npz(tmp_path, label=np.where(np.arange(COUNT) % 2, 5, 0))
    labels, names = found.labelled()
    assert names == tuple("012345") and set(labels) == {0, 5}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"label": None}, "lacks the column 'label'; it has inputs, race, split"),
        ({"race": np.array(["a"])}, r"column 'race' has shape \(1,\); expected \(24,\)"),
        ({"split": np.array(["dev"] * COUNT)}, "column 'split' holds 'dev'; expected train, valid"),
        (
            {"split": np.array(["True", "False", "tset"] * (COUNT // 3))},
            "column 'split' holds 'tset'; expected train",
        ),
        (
            {"split": np.array(["True", "test"] * (COUNT // 2))},
            "column 'split' mixes names of splits with True and False",
        ),
        ({"label": np.arange(COUNT) - 1}, "class ids must be ≥ 0; got -1"),
        ({"race": np.array([None] * COUNT)}, "names as strings"),
        (
            {"label": np.where(np.arange(COUNT) == 5, np.nan, np.arange(COUNT) % 3)},
            r"column 'label': some samples have no .*: 1 of 24 \(sample 5\)\. Give every",
        ),
        ({"label": np.full(COUNT, 10**9)}, "class ids must be < 100000; got 1000000000"),
        (
            {"label": np.where(np.arange(COUNT) == 5, 255, np.arange(COUNT) % 3)},
            r"class id 255 is far from the others, which end at 2; .* a class \(such as 255",
        ),
        ({"inputs": np.zeros((0, 3))}, "'inputs' hold no sample"),
        (
            {"inputs": np.zeros((COUNT, 3, 8, 8), np.uint8)},
            r"last axis is the colour: .*Trans",
        ),
    ],
)
def test_mistakes_in_arrays(changes, text, tmp_path):
    with pytest.raises(UserError, match=text):
        load_npz(tmp_path, **changes)


def test_a_single_class_is_nothing_to_learn(tmp_path):
    for only in (0, 1):
        found = load_npz(tmp_path, label=np.full(COUNT, only))
        with pytest.raises(UserError, match=f"'label' has the single class '{only}'; expected two"):
            found.labelled()


def test_a_file_that_was_cut_off(tmp_path):
    load_npz(tmp_path)
    path = tmp_path / "mine.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="mine.npz cannot be read"):
        data.load("npz", data.Request(str(path)))


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(UserError, match=r"expected an .npz file with arrays 'inputs', 'label'"):
        data.load("npz", data.Request(str(tmp_path / "none.npz")))


@pytest.fixture
def folder(tmp_path):
    """Images in folders of their own, and a table."""
    rows = ["path,label,race,city"]
    for i in range(12):
        path = tmp_path / f"people/{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(np.full((10 + i, 12, 3), 20 * i, np.uint8)))
        rows.append(f"people/{i}.jpg,{'yes' if i % 2 else 'no'},{'ab'[i % 2]},{'xyz'[i % 3]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_a_folder_of_images(folder, tmp_path):
    request = data.Request(str(folder), 8, cache=tmp_path / "cache")
    found = data.load("images", request)
    assert found.inputs.shape == (12, 8, 8, 3)
    assert set(found.attributes) == {"label", "race", "city"}
    assert found.labelled()[1] == ("no", "yes") and found.test_indices is None
    samples, names = found.grouped_by("race+city")
    assert names == ("a", "b", "x", "y", "z") and samples.group_ids.shape == (12, 2)
    np.testing.assert_allclose(found.inputs.take([5])[0].astype(int), 100, atol=2)


def test_integers_in_a_table_are_class_ids(folder):
    rows = [f"people/{i}.jpg,{[10, 2, 9][i % 3]},{i}" for i in range(12)]
    (folder / "labels.csv").write_text("path,label,room\n" + "\n".join(rows) + "\n")
    found = data.load("images", data.Request(str(folder), 8))
    labels, names = found.labelled()
    assert names == tuple(map(str, range(11))) and labels[:3].tolist() == [10, 2, 9]
    assert found.attributes["room"].names[:3] == ("0", "1", "2")


def test_labels_below_zero_are_no_class_ids(folder):
    rows = [f"people/{i}.jpg,{i % 3 - 1}" for i in range(12)]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="class ids must be ≥ 0; got -1"):
        data.load("images", data.Request(str(folder), 8))


@pytest.mark.parametrize("cell", ["", " ", "nan", "NULL", "N/A", "None", '""'])
def test_cells_without_a_value_are_refused_or_a_group_of_their_own(cell, folder):
    edit(folder, ",yes,b,y", f",yes,b,{cell}")
    found = data.load("images", data.Request(str(folder), 8))
    with pytest.raises(
        UserError,
        match=r"'city': some samples have no .*2 of 12 \(line 3, line 9\).*data.missing=g",
    ):
        found.grouped_by("city*race")
    assert found.grouped_by("race")[1] == ("a", "b")  # nobody asked for cities
    samples, names = found.grouped_by("city", missing="group")
    assert names == ("x", "y", "z", "missing")
    assert samples.group_ids[:5, 0].tolist() == [0, 3, 2, 0, 1]
    with pytest.raises(UserError, match="no group name .* Give every sample a label, or leave"):
        found.labelled("city")


def test_a_bad_quote_swallows_no_row(folder):
    """24 rows, one quote that is not closed: a lenient reader finds fewer, and says nothing."""
    rows = [f"people/{i % 12}.jpg,{i % 2},r{i % 3}" for i in range(24)]
    rows[12] = rows[12].replace("r", '"r')
    (folder / "labels.csv").write_text("path,label,room\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="labels.csv, line 14: a quote is opened and not closed"):
        data.load("images", data.Request(str(folder), 8))


def test_two_bad_quotes_swallow_no_row_either(folder):
    """By the standard they are one cell of two lines."""
    rows = [f"people/{i}.jpg,{i % 2},r{i % 3}" for i in range(12)]
    rows[3], rows[4] = rows[3].replace("r", '"r'), rows[4] + '"'
    (folder / "labels.csv").write_text("path,label,room\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="line 5: the column 'room' holds a line break; if a quote"):
        data.load("images", data.Request(str(folder), 8))


def test_every_row_of_a_table_is_a_sample_or_listed(folder):
    names = ['a "b"', "c, d", "é"]
    rows = [
        f"people/{i}.jpg,{i % 2}," + '"' + names[i % 3].replace('"', '""') + '"' for i in range(13)
    ]
    (folder / "labels.csv").write_text("path,label,room\r\n" + "\r\n".join(rows) + "\r\n\r\n")
    found = data.load("images", data.Request(str(folder), 8))
    assert found.attributes["room"].names == tuple(sorted(names))
    assert len(found.inputs) == 12 and found.skipped == ("people/12.jpg: there is no such file",)


def test_paths_may_be_those_of_windows(folder):
    edit(folder, "people/", "people\\")
    found = data.load("images", data.Request(str(folder), 8))
    assert len(found.inputs) == 12 and not found.skipped


def test_cells_may_be_separated_by_tabs(folder):
    table = (folder / "labels.csv").read_text().replace(",", "\t")
    (folder / "labels.tsv").write_text(table)
    found = data.load("images", data.Request(str(folder), 8, table="labels.tsv"))
    assert set(found.attributes) == {"label", "race", "city"}


def test_numbers_with_leading_zeros_are_names(folder):
    rows = [f"people/{i}.jpg,a,{['1', '01'][i % 2]}" for i in range(12)]
    (folder / "labels.csv").write_text("path,label,room\n" + "\n".join(rows) + "\n")
    found = data.load("images", data.Request(str(folder), 8))
    assert found.attributes["room"].names == ("01", "1")


@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("Test", "train ")])
def test_a_column_of_truths_in_a_table_fixes_the_test_split(words, folder):
    rows = [f"people/{i}.jpg,{i % 2},{words[i <= 8]}" for i in range(12)]
    (folder / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    found = data.load("images", data.Request(str(folder), 8))
    np.testing.assert_array_equal(found.test_indices, [9, 10, 11])


@pytest.mark.parametrize("name", ["split", "part"])
def test_the_column_of_splits_may_have_its_former_name(name, folder, tmp_path, caplog):
    words = ["train", "test", "validation"]
    rows = [f"people/{i}.jpg,{i % 2},{words[i // 4]}" for i in range(12)]
    (folder / "labels.csv").write_text(f"path,label,{name}\n" + "\n".join(rows) + "\n")
    with caplog.at_level(std_logging.WARNING, logger="absl"):
        table = data.load("images", data.Request(str(folder), 8))
        arrays = load_npz(tmp_path, **{"split": None, name: columns()["split"]})
    np.testing.assert_array_equal(table.test_indices, [4, 5, 6, 7])
    np.testing.assert_array_equal(table.validation_indices, [8, 9, 10, 11])
    np.testing.assert_array_equal(arrays.test_indices, [6, 7, 14, 15, 22, 23])
    assert set(table.attributes) == {"label"} and set(arrays.attributes) == {"label", "race"}
    warnings = [r for r in caplog.records if "is now called 'split'; rename it" in r.message]
    assert len(warnings) == (2 if name == "part" else 0)


def test_two_columns_of_splits_are_a_mistake(folder, tmp_path):
    """Either could be meant: `part` may be the former name or an attribute."""
    rows = [f"people/{i}.jpg,{i % 2},train,{'arm' if i % 2 else 'leg'}" for i in range(12)]
    (folder / "labels.csv").write_text("path,label,split,part\n" + "\n".join(rows) + "\n")
    text = "a column 'split' and a column 'part', .* Keep 'split', and drop 'part', or rename it"
    with pytest.raises(UserError, match=f"labels.csv has {text}"):
        data.load("images", data.Request(str(folder), 8))
    with pytest.raises(UserError, match=f"mine.npz has {text}"):
        load_npz(tmp_path, part=columns()["split"])
    with pytest.raises(UserError, match=f"the object has {text}"):
        data.source_from(Samples(lambda i, sample: sample | {"part": "test"}))


def test_an_empty_cell_of_the_former_column_is_named(folder):
    (folder / "labels.csv").write_text("path,label,part\npeople/0.jpg,a,train\npeople/1.jpg,b,\n")
    with pytest.raises(UserError, match="line 3: the column 'part' is empty"):
        data.load("images", data.Request(str(folder), 8))


def test_blanks_around_cells_are_no_part_of_them(folder):
    rows = [f"people/{i}.jpg, {'ab'[i % 2]} ,{'val' if i > 8 else 'train'}" for i in range(12)]
    (folder / "labels.csv").write_text("path, label,split\n" + "\n".join(rows) + "\n")
    found = data.load("images", data.Request(str(folder), 8))
    assert found.labelled()[1] == ("a", "b")
    np.testing.assert_array_equal(found.validation_indices, [9, 10, 11])


def test_paths_may_be_absolute(folder, tmp_path):
    (tmp_path / "tables").mkdir()
    rows = [f"{folder / 'people'}/{i}.jpg,{i % 2}" for i in range(12)]
    (tmp_path / "tables" / "labels.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    assert len(data.load("images", data.Request(str(tmp_path / "tables"), 8)).inputs) == 12


def test_tables_in_other_encodings_and_with_columns_twice(folder):
    table = folder / "labels.csv"
    table.write_bytes("path,label,größe\n".encode("latin-1"))
    with pytest.raises(UserError, match="line 1 is not UTF-8; save the file in UTF-8"):
        data.load("images", data.Request(str(folder)))
    table.write_text("path,label,race,race\npeople/1.jpg,a,b,c\n")
    with pytest.raises(
        UserError, match="has the column 'race' twice; its columns: path, label, race, r"
    ):
        data.load("images", data.Request(str(folder)))


def edit(folder, old, new):
    table = folder / "labels.csv"
    table.write_text(table.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("label", "target", "lacks the column 'label'; it has path, target, race, city"),
        ("path,label,race,city", "path;label;race;city", "commas .*; line 1 is 'path;label;race;c"),
        (",yes,b,y", ",,b,y", "line 3: the column 'label' is empty"),
        (
            ",yes,b,y",
            ",NULL,b,y",
            r"'label': some samples have no .*\(line 3, line 9\)\. Give every",
        ),
        (",yes,b,y", ",yes", "line 3 has 2 cells; line 1 names 4 columns"),
        (",yes,b,y\n", ",yes,b,y,z\n", "line 3 has 5 cells; line 1 names 4 columns"),
        (",yes,b,y", ',"yes,b,y', "line 3: a quote is opened and not closed"),
        (",yes,b,y", ',yes,b"b,y', "line 3: there is a quote in the middle of a cell"),
        (",no,a,z\n", ",no,a,z\n\n", "line 5 is empty; remove it"),
        (
            "people",
            "folk",
            "none of the paths of .*labels.csv is a file in .*; the first is 'folk",
        ),
    ],
)
def test_mistakes_in_a_table(old, new, text, folder):
    edit(folder, old, new)
    with pytest.raises(UserError, match=text):
        data.load("images", data.Request(str(folder), 8))


def test_a_path_without_a_file_is_listed(folder):
    edit(folder, "people/3.jpg", "people/33.jpg")
    found = data.load("images", data.Request(str(folder), 8))
    assert found.skipped == ("people/33.jpg: there is no such file",) and len(found.inputs) == 11


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda place: None, "expected a folder of images with a table labels.csv"),
        (
            lambda place: (place / "x.png").write_text(""),
            "there is no table .*labels.csv; expected",
        ),
    ],
)
def test_an_empty_folder(make, text, tmp_path):
    make(tmp_path)
    with pytest.raises(UserError, match=text):
        data.load("images", data.Request(str(tmp_path)))


class Samples:
    """As a map-style data set of PyTorch."""

    def __init__(self, change=lambda i, sample: sample):
        self.change = change

    def __len__(self):
        return COUNT

    def __getitem__(self, i):
        whole = columns()
        return self.change(i, {name: whole[name][i] for name in whole})


def test_an_object():
    found = data.source_from(Samples())
    np.testing.assert_array_equal(found.inputs.take(range(COUNT)), columns()["inputs"])
    np.testing.assert_array_equal(found.labelled()[0], columns()["label"])
    assert len(found.test_indices) == 6 and found.digests.shape == (COUNT,)


def make_samples():
    """Named by `module:function`."""
    return Samples()


def test_a_function_of_the_users():
    found = data.load(f"{__name__}:make_samples")
    assert len(found.inputs) == COUNT
    with pytest.raises(UserError, match="Expected MODULE:FUNCTION, where Python can import MODULE"):
        data.load(f"{__name__}:make_sample")
    with pytest.raises(UserError, match="No module named 'nowhere'"):
        data.load("nowhere:make")
    for request, text in (
        (data.Request(size=8), "make_samples' are not resized; write config.data.size=0"),
        (data.Request(synthetic=100), "has no synthetic form; write config.data.synthetic=0"),
        (data.Request("folder"), "make_samples' reads no files of yours; leave --data_dir out"),
    ):
        with pytest.raises(UserError, match=text):
            data.load(f"{__name__}:make_samples", request)
    with pytest.raises(AttributeError, match="has no attribute 'samples'"):  # the user's own
        data.load(f"{__name__}:make_nothing")


def make_nothing():
    """With a mistake in it."""
    return None.samples


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (3, "expected an object with __len__ and __getitem__; got int"),
        ([], "holds no sample"),
        ([(np.zeros(3), 1)], "sample 0 must be a mapping with 'inputs', 'label' .* got tuple"),
        ([{"inputs": 1, "lable": 2}], "got inputs, lable"),
        (
            Samples(lambda i, s: s if i < 5 else {k: s[k] for k in ("inputs", "label")}),
            "sample 5 has inputs, label, the first one inputs, label, race, split",
        ),
        (
            Samples(lambda i, s: s | {"inputs": np.zeros(i + 1)}),
            r"inputs of sample 1 have shape \(2,\) .* first one \(1,\)",
        ),
        (
            Samples(lambda i, s: s | {"inputs": np.full(2, np.nan if i == 3 else 1.0)}),
            "inputs of sample 3 hold NaN or infinity",
        ),
    ],
)
def test_mistakes_in_an_object(samples, text):
    with pytest.raises(UserError, match=text):
        data.source_from(samples)


def test_unknown_names_list_the_known_ones():
    known = "digits, utkface, fairface, celeba, cifar100, census, npz, images; or write 'module:f"
    with pytest.raises(UserError, match=f"unknown data set 'mnist'; known data sets: {known}"):
        data.load("mnist")
