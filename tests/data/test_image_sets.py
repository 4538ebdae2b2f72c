"""Small made-up versions of the real data sets: listed, prepared, decoded once; and mistakes."""

import csv
import importlib
import tarfile
import zipfile

import numpy as np
import pytest

from bap_jax import data
from bap_jax.data import builders, synthetic
from bap_jax.data.builders import celeba, cifar100, fairface, utkface
from bap_jax.errors import UserError
from tests.data.images import COUNTS, face

ATTRIBUTES = {
    "utkface": {"gender": 2, "race": 5, "age": 9},
    "fairface": {"gender": 2, "race": 7, "age": 9},
    "cifar100": {"fine": 100, "coarse": 20},
}


@pytest.mark.parametrize("name", COUNTS)
def test_every_set_is_found_prepared_and_decoded(name, folders, tmp_path):
    size = 0 if name == "cifar100" else 16
    request = data.Request(str(folders[name]), size, cache=tmp_path)
    found = data.load(name, request)
    assert len(found.inputs) == COUNTS[name]
    assert found.inputs.shape[1:] == ((32, 32, 3) if name == "cifar100" else (16, 16, 3))
    assert found.inputs.dtype == np.uint8 and found.inputs.take([0]).std() > 0
    known = ATTRIBUTES.get(name, dict.fromkeys(synthetic.CELEBA_COLUMNS, 2))
    assert {k: len(v.names) for k, v in found.attributes.items()} == known
    assert 0 < len(found.test_indices) < COUNTS[name]
    assert (found.validation_indices is not None) == (name == "celeba")
    again = data.load(name, request)
    np.testing.assert_array_equal(again.inputs.take(range(9)), found.inputs.take(range(9)))
    uncached = data.load(name, request._replace(cache=None))
    assert uncached.attributes.keys() == found.attributes.keys()
    np.testing.assert_array_equal(uncached.inputs.take(range(9)), found.inputs.take(range(9)))
    for attribute, grouping in uncached.attributes.items():
        np.testing.assert_array_equal(grouping.ids, found.attributes[attribute].ids)


@pytest.mark.parametrize("name", COUNTS)
def test_builders_hold_what_the_listing_says(name, folders, tmp_path):
    spec = data.DATASETS[name]
    listing = spec.list_files(str(folders[name]))
    module, _, builder_class = spec.builder.partition(":")
    builder = getattr(importlib.import_module(module), builder_class)(
        listing=listing, data_dir=str(tmp_path)
    )
    builder.download_and_prepare()
    assert list(tmp_path.rglob("*.array_record*"))
    assert sum(map(len, builder.rows().values())) == len(listing.names) == COUNTS[name]
    for split, rows in builder.rows().items():
        source = builder.as_data_source(split)
        assert len(source) == len(rows)
        for place in (0, len(rows) - 1):
            sample = source[place]
            assert sample["name"].decode() == listing.names[rows[place]]
            for attribute, grouping in listing.attributes.items():
                assert sample[attribute] == grouping.ids[rows[place], 0]


def test_nothing_imports_tensorflow(folders, tmp_path):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from bap_jax import data\n"
        "request = data.Request(sys.argv[1], 8, cache=Path(sys.argv[2]))\n"
        "data.load('utkface', request)\n"
        "print({'tensorflow', 'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(folders["utkface"]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_long_splits_are_cut_into_several(folders, tmp_path, monkeypatch):
    """tensorflow-datasets asks for TensorFlow once a split fills its memory."""
    import tensorflow_datasets as tfds

    from bap_jax.data.builders import tfds as ours

    monkeypatch.setattr(tfds.core.shuffle, "MAX_MEM_BUFFER_SIZE", 200_000)
    monkeypatch.setattr(ours, "PIECE_BYTES", 100_000)
    request = data.Request(str(folders["celeba"]), 16)
    found = data.load("celeba", request._replace(cache=tmp_path))
    rows = list(range(COUNTS["celeba"]))
    np.testing.assert_array_equal(
        found.inputs.take(rows), data.load("celeba", request).inputs.take(rows)
    )
    listing = builders.list_celeba(str(folders["celeba"]))
    splits = ours.Celeba(listing=listing, data_dir=str(tmp_path / "other")).rows()
    assert len(splits) > 10 and list(splits)[:2] == ["train_0", "train_1"]
    np.testing.assert_array_equal(np.sort(np.concatenate(list(splits.values()))), rows)


def test_copies_beside_the_faces_are_left_out(tmp_path):
    for folder in ("UTKFace", "crop_part1"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            face(tmp_path / folder, f"{20 + i}_0_{i}_2017.jpg")
    found = builders.list_utkface(str(tmp_path))
    assert len(found.names) == 4 and not found.skipped  # the folder of that name is enough
    (tmp_path / "UTKFace").rename(tmp_path / "part2")
    found = builders.list_utkface(str(tmp_path))
    assert len(found.names) == 4 and len(found.skipped) == 4
    assert found.skipped[0].endswith("part2/20_0_0_2017.jpg: another file has this name")


def test_made_up_faces_are_not_taken_for_real_ones(folders, tmp_path):
    face(tmp_path, "20_0_0_2017.jpg")
    face(tmp_path, "21_0_0_2017.jpg")
    request = data.Request(synthetic=100, cache=tmp_path / "runs" / "data_cache")
    synthetic.make_folder(data.DATASETS["utkface"], request)
    assert len(builders.list_utkface(str(tmp_path)).names) == 2


def test_a_damaged_member_of_the_archive_is_listed(copied, tmp_path):
    folder = copied("celeba")
    path = folder / celeba.ARCHIVE
    with zipfile.ZipFile(path) as archive:
        entry = archive.infolist()[50]
    content = bytearray(path.read_bytes())
    middle = entry.header_offset + entry.file_size // 2
    content[middle : middle + 4] = b"\0\0\0\1"
    path.write_bytes(bytes(content))
    found = data.load("celeba", data.Request(str(folder), 8, cache=tmp_path / "cache"))
    assert len(found.skipped) == 1 and "000051.jpg' cannot be read" in found.skipped[0]
    assert len(found.inputs) == COUNTS["celeba"] - 1


def load_in_a_process(folder, cache):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from bap_jax import data\n"
        "found = data.load('utkface', data.Request(sys.argv[1], 8, cache=Path(sys.argv[2])))\n"
        "print(len(found.inputs), found.digests.sum())"
    )
    command = [sys.executable, "-c", code, str(folder), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.smoke
def test_two_processes_share_a_cache(folders, tmp_path):
    running = [load_in_a_process(folders["utkface"], tmp_path) for _ in range(2)]
    ended = [process.communicate() for process in running]
    assert all(process.returncode == 0 for process in running), ended
    assert ended[0][0] == ended[1][0] and ended[0][0].startswith("100 ")


def test_utkface_by_its_names(tmp_path):
    ages = (9, 10, 14, 15, 59, 60, 116)
    for i, age in enumerate(ages):
        face(tmp_path, f"{age}_{i % 2}_{i % 5}_2017010915055733{i}.jpg.chip.jpg")
    # The real set has names of this kind: unusual, but complete.
    for name in ("44_1_4_20170116235150272.pg.chip.jpg", "24_0_1_20170116220224657 .jpg.chip.jpg"):
        face(tmp_path, name)
    for name in ("61_1_20170109150557335.jpg.chip.jpg", "holiday.jpg"):
        face(tmp_path, name)
    found = builders.list_utkface(str(tmp_path))
    assert list(found.names) == sorted(found.names) and len(found.names) == 9
    by_name = {name: found.attributes["age"].ids[i, 0] for i, name in enumerate(found.names)}
    age_ids = [
        by_name[f"{age}_{i % 2}_{i % 5}_2017010915055733{i}.jpg.chip.jpg"]
        for i, age in enumerate(ages)
    ]
    assert [utkface.AGES[i] for i in age_ids] == [
        "0-9",
        "10-14",
        "10-14",
        "15-19",
        "50-59",
        "60+",
        "60+",
    ]
    assert len(found.skipped) == 2 and "holiday.jpg: the name does not give" in found.skipped[1]


def test_the_papers_test_split_of_utkface():
    splits = utkface._paper_splits(23705)
    assert (splits == 2).sum() == 4741 and (splits == 0).sum() == 18964
    order = np.random.RandomState(1357).permutation(23705)
    np.testing.assert_array_equal(np.flatnonzero(splits == 2), np.sort(order[:4741]))


def test_fairface_repairs_what_spreadsheets_did(copied):
    folder = copied("fairface")
    assert "03-Sep" in (folder / "fairface_label_train.csv").read_text()
    found = builders.list_fairface(str(folder))
    assert 1 in found.attributes["age"].ids


@pytest.mark.parametrize(
    ("cell", "age"),
    [
        *((cell, "3-9") for cell in ("03-Sep", "3-Sep", "9-Mar", "09-Mar", "Mar-09", "2026-03-09")),
        *((cell, "3-9") for cell in ("3/9/2026", "09.03.2026", "3\N{EN DASH}9", "Sept 3")),
        *((cell, "10-19") for cell in ("Oct-19", "19-Oct", "2019-10-01", "10/19/2026", "oct 19")),
        *((cell, cell) for cell in ("0-2", "20-29", "more than 70", "", "70+", "Mai-19")),
    ],
)
def test_ages_that_spreadsheets_made_dates(cell, age):
    assert fairface.age_of(cell) == age


@pytest.mark.parametrize(("old", "new"), [("Black", "Blue"), ("Black", "")])
def test_what_fairface_does_not_know_stops_only_runs_that_need_it(old, new, copied):
    folder = copied("fairface")
    path = folder / "fairface_label_val.csv"
    path.write_text(path.read_text().replace(old, new))
    found = data.load("fairface", data.Request(str(folder), 8))
    text = f"unknown race {new!r} in [0-9]+ of [0-9]+ rows .*val.csv, line [0-9]+.*; known are Whi"
    with pytest.raises(UserError, match=text):
        found.grouped_by("gender*race", "gender")
    with pytest.raises(UserError, match=text):
        found.labelled("race")
    assert found.grouped_by("age", "gender")[0].size == COUNTS["fairface"]
    assert found.grouped_by("race", "gender", missing="group")[1][-1] == "missing"


@pytest.mark.parametrize("no", ["-1", "0"])
def test_celeba_with_tables_as_csv_files(no, copied):
    folder = copied("celeba")
    before = builders.list_celeba(str(folder))
    _, head, *rows = (folder / celeba.ATTRIBUTES).read_text().splitlines()
    table = [",".join(["image_id", *head.split()]), *(",".join(row.split()) for row in rows)]
    text = "\n".join(table).replace("-1", no)
    (folder / "list_attr_celeba.csv").write_text(text)
    splits = (folder / celeba.PARTITION).read_text().replace(" ", ",")
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n" + splits)
    for name in (celeba.ATTRIBUTES, celeba.PARTITION):
        (folder / name).unlink()
    found = builders.list_celeba(str(folder))
    assert found.digest() == before.digest()
    (folder / "list_attr_celeba.csv").write_text(text.replace(",1", ",2", 1))
    with pytest.raises(UserError, match=r"values must be 1 and -1, or 1 and 0; got '2' for 00000"):
        builders.list_celeba(str(folder))


def test_fairface_without_a_column(copied):
    folder = copied("fairface")
    path = folder / "fairface_label_train.csv"
    path.write_text(path.read_text().replace("gender", "sex", 1))
    with pytest.raises(UserError, match=r"lacks the column 'gender'; it has file, age, sex, race"):
        builders.list_fairface(str(folder))


def test_a_table_of_fairface_that_is_cut_off(copied):
    path = copied("fairface") / "fairface_label_val.csv"
    path.write_text(path.read_text() + "val/7.jpg,20-29,Male")
    with pytest.raises(UserError, match="fairface_label_val.csv, line 23 has 3 cells; line 1"):
        builders.list_fairface(str(path.parent))


def test_a_bad_quote_in_a_table_of_fairface_swallows_no_row(copied):
    path = copied("fairface") / "fairface_label_train.csv"
    lines = path.read_text().splitlines(keepends=True)
    lines[3] = lines[3].replace(",", ',"', 1)
    path.write_text("".join(lines))
    with pytest.raises(UserError, match="line 4: a quote is opened and not closed before the cell"):
        builders.list_fairface(str(path.parent))


def test_an_image_that_a_table_names_and_nobody_has(copied):
    folder = copied("fairface")
    (folder / "train" / "0.jpg").unlink()
    found = builders.list_fairface(str(folder))
    assert list(found.skipped) == ["train/0.jpg: there is no such file"]
    assert len(found.names) == COUNTS["fairface"] - 1


def test_celeba_as_a_folder_is_celeba_as_an_archive(copied, tmp_path):
    folder = copied("celeba")
    zipped = builders.list_celeba(str(folder))
    with zipfile.ZipFile(folder / celeba.ARCHIVE) as archive:
        archive.extractall(folder)
    (folder / celeba.ARCHIVE).unlink()
    unzipped = builders.list_celeba(str(folder))
    assert zipped.digest(files=False) == unzipped.digest(files=False)
    assert list(zipped.sizes) == list(unzipped.sizes)
    with open(unzipped.read(3), "rb") as file:
        assert file.read() == zipped.read(3)


def test_the_archive_of_celeba_is_never_read_whole(copied, tmp_path, monkeypatch):
    """One member at a time, and none to list them."""
    folder, opened = copied("celeba"), []
    whole = zipfile.ZipFile.open
    monkeypatch.setattr(
        zipfile.ZipFile, "open", lambda self, *args: opened.append(args[0]) or whole(self, *args)
    )
    monkeypatch.setattr(zipfile.ZipFile, "extractall", lambda *args: pytest.fail("unpacked"))
    listing = builders.list_celeba(str(folder))
    assert not opened
    listing.read(7)
    assert [entry.filename for entry in opened] == ["img_align_celeba/000008.jpg"]


@pytest.mark.parametrize("nested", [False, True])
def test_the_fullest_place_of_celeba_counts(nested, copied):
    """An empty or half unpacked folder beside the archive; a folder in a folder without it."""
    folder = copied("celeba")
    inner = folder / celeba.FOLDER / celeba.FOLDER
    with zipfile.ZipFile(folder / celeba.ARCHIVE) as archive:
        if nested:
            archive.extractall(folder / celeba.FOLDER)
        else:
            archive.extract("img_align_celeba/000003.jpg", folder)
    if nested:
        (folder / celeba.ARCHIVE).unlink()
        assert inner.is_dir()
    listing = builders.list_celeba(str(folder))
    assert len(listing.names) == COUNTS["celeba"] and not listing.skipped


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            celeba.ATTRIBUTES,
            "1\nMale Young\n000001.jpg 1\n",
            "line 3: expected a file name and 2 val",
        ),
        (celeba.ATTRIBUTES, "1\nMale\n000001.jpg yes\n", "line 3: values must be 1 and -1"),
        (celeba.ATTRIBUTES, "2\nMale\n000001.jpg 1\n", "promises 2 images, the table has 1. Down"),
        (
            celeba.PARTITION,
            "000001.jpg 7\n",
            "line 1: expected NAME and 0, 1 or 2; got '000001.jpg 7'",
        ),
        (celeba.ARCHIVE, "no archive", "img_align_celeba.zip is not complete"),
    ],
)
def test_damaged_tables_of_celeba(file, text, message, copied):
    folder = copied("celeba")
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        builders.list_celeba(str(folder))


def test_cifar100_in_all_its_forms(folders, tmp_path):
    folder = folders["cifar100"]
    plain = builders.list_cifar100(str(folder))
    with tarfile.open(tmp_path / cifar100.ARCHIVE, "w:gz") as archive:
        for name in ("train.bin", "test.bin"):
            archive.add(folder / name, f"cifar-100-binary/{name}")
    packed = builders.list_cifar100(str(tmp_path))
    assert packed.digest() == plain.digest()
    splits, fine, coarse = (
        plain.splits,
        *(plain.attributes[k].ids[:, 0] for k in ("fine", "coarse")),
    )
    images = np.stack([plain.read(i) for i in range(len(splits))])
    arrays = {}
    for name, split in (("train", 0), ("test", 2)):
        arrays |= {f"x_{name}": images[splits == split], f"y_{name}": fine[splits == split]}
        arrays[f"y_{name}_coarse"] = coarse[splits == split]
    other = tmp_path / "arrays"
    other.mkdir()
    np.savez(other / cifar100.ARRAYS, **arrays)
    assert builders.list_cifar100(str(other)).digest() == plain.digest()
    np.savez(other / cifar100.ARRAYS, **{**arrays, "y_test": arrays["y_test"] + 1})
    with pytest.raises(UserError, match=r"fine labels must lie in \[0, 99\]; got 0 … 100"):
        builders.list_cifar100(str(other))
    np.savez(other / cifar100.ARRAYS, **{**arrays, "y_test": arrays["y_test"][:, None]})
    assert builders.list_cifar100(str(other)).digest() == plain.digest()
    np.savez(other / cifar100.ARRAYS, **{**arrays, "y_test": arrays["y_test"][:-3]})
    with pytest.raises(UserError, match=r"y_test must be one integer for each of 100 images; got"):
        builders.list_cifar100(str(other))
    del arrays["y_test"]
    np.savez(other / cifar100.ARRAYS, **arrays)
    with pytest.raises(UserError, match="lacks the array 'y_test'; expected x_train"):
        builders.list_cifar100(str(other))


def test_a_record_of_cifar100_by_hand(tmp_path):
    pixels = np.arange(3 * 32 * 32, dtype=np.int64).reshape(3, 32, 32) % 251
    record = np.concatenate([[7, 38], pixels.ravel()]).astype(np.uint8).tobytes()
    (tmp_path / "train.bin").write_bytes(record * 2)
    (tmp_path / "test.bin").write_bytes(record)
    found = builders.list_cifar100(str(tmp_path))
    assert found.attributes["coarse"].ids.ravel().tolist() == [7] * 3
    assert found.attributes["fine"].ids.ravel().tolist() == [38] * 3
    np.testing.assert_array_equal(found.read(0), pixels.transpose(1, 2, 0))
    (tmp_path / "test.bin").write_bytes(record[:-1])
    with pytest.raises(
        UserError, match=r"test.bin has 3073 bytes, which is not a multiple of 3074"
    ):
        builders.list_cifar100(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("utkface", "AGE_GENDER_RACE_DATE.jpg.chip.jpg .* come from the UTKFace page"),
        ("fairface", "fairface_label_train.csv .* train and val .* the FairFace repository"),
        ("celeba", "list_attr_celeba.txt, .* img_align_celeba.zip .* come from the CelebA page"),
        ("cifar100", "cifar-100-binary.tar.gz, .*train.bin.* come from the CIFAR page"),
    ],
)
def test_missing_files_say_what_goes_where(name, wanted, tmp_path):
    with pytest.raises(UserError, match=f"write --data_dir=DIR; expected .*{wanted}"):
        data.load(name)
    with pytest.raises(UserError, match=f"there is no such folder; expected .*{wanted}"):
        data.load(name, data.Request(str(tmp_path / "nowhere")))
    message = f"does not hold this data set: {tmp_path} lacks .*; expected .*{wanted}"
    with pytest.raises(UserError, match=message):
        data.load(name, data.Request(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "missing"),
    [("celeba", "list_eval_partition.txt"), ("fairface", "fairface_label_val.csv")],
)
def test_the_one_file_that_is_missing_is_named(name, missing, copied):
    folder = copied(name)
    (folder / missing).unlink()
    (folder.parent / "aside").mkdir()
    with pytest.raises(UserError, match=f"{folder.name} lacks {missing}; expected"):
        data.load(name, data.Request(str(folder.parent)))


def test_an_unknown_attribute_lists_the_known_ones(folders):
    found = data.load("utkface", data.Request(str(folders["utkface"])))
    with pytest.raises(UserError, match="'hair'; known attributes: age, gender, race"):
        found.grouped_by("race*hair")


@pytest.mark.parametrize(("name", "count"), [("utkface", 99), ("cifar100", 599)])
def test_too_few_synthetic_images(name, count):
    with pytest.raises(UserError, match=f"at least {count + 1} samples of {name}; got {count}"):
        data.load(name, data.Request(synthetic=count))


def test_fairface_tables_are_read_by_name_of_column(copied):
    folder = copied("fairface")
    for table in fairface.TABLES:
        with (folder / table).open(newline="") as file:
            rows = list(csv.DictReader(file))
        with (folder / table).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(reversed(rows[0])))
            writer.writeheader()
            writer.writerows(rows)
    assert len(builders.list_fairface(str(folder)).names) == COUNTS["fairface"]
