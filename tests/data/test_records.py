"""Records take the place of an array, read only what is needed, and name the file that is wrong."""

import jax
import numpy as np
import pytest

from bap_jax import data
from bap_jax.data import Records
from bap_jax.errors import UserError
from bap_jax.types import Dataset
from tests.data.images import SHAPE, both, encoded, picture, write


def numbers(size=6):
    """Records of `(2,)` float32: row, row squared; and the list of rows that were read."""
    seen = []

    def read(row):
        seen.append(row)
        return np.array([row, row**2], np.float32)

    return Records(read, np.arange(size), (2,), np.dtype(np.float32)), seen


def test_they_look_like_an_array():
    records, seen = numbers()
    assert (len(records), records.shape, records.dtype) == (6, (6, 2), np.float32)
    assert records.nbytes == 48
    assert not seen


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [5, 3, 1]),
        (np.array([4, 0, 4]), [4, 0, 4]),
        ([5], [5]),
        (np.array([True, False, False, True, False, False]), [0, 3]),
        ([], []),
    ],
)
def test_a_choice_reads_nothing_and_take_reads_it(chosen, rows):
    records, seen = numbers()
    some = records[chosen]
    assert not seen and some.shape == (len(rows), 2)
    np.testing.assert_array_equal(some.take(range(len(some)))[:, 0], rows)
    assert seen == rows


def test_a_choice_of_a_choice():
    records, _ = numbers()
    np.testing.assert_array_equal(records[2:][[3, 0]].take([1, 0, 1]), [[2, 4], [5, 25], [2, 4]])


def test_a_single_index_is_no_choice():
    records, _ = numbers()
    with pytest.raises(TypeError, match=r"a slice or an array of indices, got array\(3\)"):
        records[3]
    with pytest.raises(TypeError, match="a slice or an array of indices"):
        records.take(np.zeros((2, 2), int))


def test_they_do_not_become_an_array_by_themselves():
    records, seen = numbers()
    with pytest.raises(TypeError, match=r"write records\.take"):
        np.asarray(records)
    with pytest.raises(TypeError, match="records take a slice or an array of indices"):
        list(records)
    assert not seen


def test_they_are_one_leaf():
    samples = Dataset(numbers()[0], np.zeros(6), np.zeros((6, 1)))
    assert len(jax.tree.leaves(samples)) == 3


def test_samples_of_another_shape_or_type():
    def read(row):
        return np.zeros(2 + (row == 1), np.float32 if row < 2 else np.float64)

    records = Records(read, np.arange(3), (2,), np.dtype(np.float32))
    records.take([0])
    with pytest.raises(
        UserError, match=r"sample 1 is float32 of shape \(3,\); expected float32 of"
    ):
        records.take([0, 1])
    with pytest.raises(UserError, match=r"sample 2 is float64 of shape \(2,\)"):
        records.take([2])


def test_png_files_come_back_as_they_were(tmp_path):
    paths, pixels = write(tmp_path, 4)
    records = Records.of_images(paths, SHAPE)
    assert records.shape == (4, *SHAPE) and records.dtype == np.uint8
    np.testing.assert_array_equal(records.take([2, 0]), pixels[[2, 0]])


def test_jpeg_files_come_back_nearly(tmp_path):
    paths, pixels = write(tmp_path, 3, "JPEG")
    found = Records.of_images([str(path) for path in paths], SHAPE).take(range(3))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pixels).mean() < 15


def test_grey_images_become_rgb(tmp_path):
    grey = picture(0)[:, :, 0]
    (tmp_path / "grey.png").write_bytes(encoded(grey))
    found = Records.of_images([tmp_path / "grey.png"], SHAPE).take([0])[0]
    np.testing.assert_array_equal(found, np.repeat(grey[:, :, None], 3, 2))


def test_a_corrupt_file_is_named(tmp_path):
    paths, _ = write(tmp_path, 3)
    paths[1].write_bytes(paths[1].read_bytes()[:60])
    records = Records.of_images(paths, SHAPE)
    records.take([0, 2])
    with pytest.raises(UserError, match=r"image '.*1\.png' cannot be read: "):
        records.take([1])


def test_a_missing_file_and_one_that_is_no_image_are_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    records = Records.of_images([tmp_path / "text.jpg", tmp_path / "gone.jpg"], SHAPE)
    for row, name in enumerate(("text.jpg", "gone.jpg")):
        with pytest.raises(
            UserError, match=f"image '.*{name}' cannot be read: .*Restore it or leave"
        ):
            records.take([row])


def test_an_image_of_another_shape_is_named(tmp_path):
    paths, _ = write(tmp_path, 2)
    paths[1].write_bytes(encoded(picture(1, (10, 13, 3))))
    records = Records.of_images(paths, SHAPE)
    with pytest.raises(
        UserError, match=r"1.png' has shape \(10, 13, 3\), expected \(10, 12, 3\); resize"
    ):
        records.take([0, 1])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 4), (0, 8, 3)])
def test_images_are_rgb(shape):
    with pytest.raises(UserError, match=r"expected shape \(height, width, 3\), got \("):
        Records.of_images([], shape)


def test_splits_of_records_are_splits_of_arrays():
    streamed, arrays = both(60)
    names = ("even", "odd", "low", "high")
    found, expected = (
        data.make_splits(samples, 3, names, test_indices=np.arange(0, 12)[::-1])
        for samples in (streamed, arrays)
    )
    for name in data.SPLITS:
        one, other = getattr(found, name), getattr(expected, name)
        assert isinstance(one.inputs, Records)
        np.testing.assert_array_equal(one.inputs.take(range(one.size)), other.inputs)
        for a, b in zip(one[1:], other[1:], strict=True):
            np.testing.assert_array_equal(a, b)


def check(records, size=6):
    samples = Dataset(records, np.zeros(size, np.int32), np.zeros((size, 1), np.int32))
    data.check_dataset(samples, 1, ("a",))


def test_the_check_reads_one_sample():
    records, seen = numbers()
    check(records)
    assert seen == [0]


def test_the_check_finds_what_is_wrong():
    records, _ = numbers()
    with pytest.raises(UserError, match="inputs 5, labels 6, groups 6"):
        check(records[:5])
    with pytest.raises(UserError, match="expected float32"):
        check(Records(lambda row: np.zeros(3), np.arange(6), (3,), np.dtype(np.float32)))
    with pytest.raises(UserError, match="inputs must be numbers"):
        check(Records(lambda row: np.array("a"), np.arange(6), (), np.dtype("<U1")))
    with pytest.raises(UserError, match="NaN or Inf"):
        check(Records(lambda row: np.array(np.nan), np.arange(6), (), np.dtype(float)))


def test_bytes_and_fits():
    streamed, arrays = both(5)
    size = 5 * (10 * 12 * 3 + 4 + 2 * 4 + 3 * 4)
    assert data.nbytes(streamed) == data.nbytes(arrays) == size


@pytest.mark.parametrize("batch_size", [4, 7, 256])
def test_read_all(batch_size):
    streamed, arrays = both(7)
    found = data.read_all(streamed, batch_size)
    jax.tree.map(np.testing.assert_array_equal, found, arrays)
    assert data.read_all(arrays) is arrays


def test_the_first_sample():
    streamed, arrays = both(3)
    np.testing.assert_array_equal(data.example(streamed), arrays.inputs[:1])
    np.testing.assert_array_equal(data.example(arrays), arrays.inputs[:1])


def test_on_device_leaves_records():
    streamed, _ = both(3)
    found = data.on_device(streamed)
    assert found.inputs is streamed.inputs
    assert all(isinstance(leaf, jax.Array) for leaf in found[1:])
