"""Inputs of several arrays: structures, errors that name the leaf, records, files, summaries."""

import collections
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from bap_jax import data, groups
from bap_jax.data.checks import check_inputs
from bap_jax.data.inputs import as_inputs, num_samples
from bap_jax.errors import UserError
from bap_jax.types import Dataset

COUNT = 24


class Pair(NamedTuple):
    tokens: Any
    mask: Any


def tokens_and_mask():
    tokens = np.random.default_rng(0).integers(0, 9, (COUNT, 5)).astype(np.int32)
    return {"tokens": tokens, "mask": tokens > 2}


def records(tree):
    rows = lambda i: jax.tree.map(lambda leaf: leaf[i], tree)  # noqa: E731
    return data.Records.of_samples(rows, COUNT)


def dataset(inputs):
    return Dataset(inputs, np.arange(COUNT) % 2, np.zeros((COUNT, 1), int))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        (((1, 2), (3, 4)), np.array([[1, 2], [3, 4]])),
        ((1.0, np.float64(2)), np.array([1.0, 2.0])),
        ({"a": [1, 2]}, {"a": np.array([1, 2])}),
        (collections.UserDict(a=[1, 2]), {"a": np.array([1, 2])}),
        ((np.zeros(2), jnp.ones(2)), (np.zeros(2), np.ones(2, np.float32))),
        (
            {"x": (np.zeros(2), collections.UserDict(y=np.ones(2)))},
            {"x": (np.zeros(2), {"y": np.ones(2)})},
        ),
        (Pair([1, 2], [True, False]), Pair(np.array([1, 2]), np.array([True, False]))),
        (np.ma.array([1, 2], mask=[0, 0]), np.array([1, 2])),
        ({"a": np.ones(2), "b": None}, {"a": np.ones(2), "b": None}),
    ],
)
def test_structures(given, expected):
    found = as_inputs(given)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for leaf, wanted in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(leaf, wanted)
        assert isinstance(leaf, np.ndarray) and leaf.dtype == wanted.dtype


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "inputs hold no array"),
        ({"a": None}, "inputs hold no array"),
        ({"a": [[1, 2], [3]]}, r"inputs\['a'\] cannot be made an array: .* by padding"),
        ({"a": np.zeros(2), "b": np.array(["x", "y"])}, r"inputs\['b'\] must be numbers; .* texts"),
        ((np.zeros(2), np.array([1, "x"], object)), r"inputs\[1\] must be numbers; .* object"),
        ({"a": np.array([1], "timedelta64[s]")}, r"inputs\['a'\] must be numbers; .*timedelta"),
        (
            {"a": np.array(["2020-01-01"], "datetime64[D]")},
            r"inputs\['a'\] must be numbers; .*date",
        ),
        ((i for i in range(3)), "generator is neither an array nor a pytree of arrays"),
        (np.array([b"x", "y"], object), r"inputs must be numbers; .* Tokenise or encode texts\."),
        ({"k": jax.random.split(jax.random.key(0), 3)}, r"inputs\['k'\] cannot be made an array"),
        ({"a": np.array([1, 2], object)}, r"inputs\['a'\] must be numbers; .*astype\('float32'\)"),
        ({"a": np.ma.array([1, 2], mask=[1, 0])}, r"inputs\['a'\] hold 1 masked value"),
        (np.ma.array([[1.0, 2]], mask=[[1, 1]]), "inputs hold 2 masked values"),
        (scipy.sparse.csr_matrix(np.eye(3)), r"inputs are a sparse matrix; write \.toarray\(\)"),
        ([{"a": 1}, {"a": 2}], "inputs must be numbers; .* Give one dict of arrays"),
        (Pair(np.array([0.0, np.nan]), np.zeros(2)), r"inputs\.tokens hold 1 NaN .* in sample 1"),
        ({"a": {"b": np.array([np.inf])}}, r"inputs\['a'\]\['b'\] hold 1 NaN or Inf"),
        ({"z": np.array([1j * np.inf])}, r"inputs\['z'\] hold 1 NaN or Inf"),
        ({"ids": np.array([0, 2**31])}, r"inputs\['ids'\] hold 0 … 2147483648; .* are int32"),
        (np.array([-(2**31) - 1]), "inputs hold -2147483649 … .* are int32"),
        ({"ids": np.array([2**32], np.uint64)}, r"inputs\['ids'\] hold .* are uint32"),
    ],
)
def test_mistakes_name_the_leaf(inputs, text):
    with pytest.raises(UserError, match=text):
        check_inputs(as_inputs(inputs))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"mask": np.zeros(3)}, r"got inputs\['mask'\] 3, inputs\['tokens'\] 24, labels 24, gr"),
        ({"mask": np.array(True)}, r"inputs\['mask'\] must have one entry for each sample; got a"),
    ],
)
def test_every_array_has_one_entry_for_each_sample(changes, text):
    with pytest.raises(UserError, match=text):
        data.check_dataset(dataset(tokens_and_mask() | changes), 2, ["all"])


def test_large_ids_that_the_device_keeps_are_allowed():
    check_inputs({"ids": np.array([-(2**31), 2**31 - 1]), "more": np.array([2**32 - 1], "uint32")})
    check_inputs(as_inputs({"few": jnp.zeros(3, jnp.int4), "half": jnp.ones((3, 2), jnp.bfloat16)}))


def test_splits_take_rows_of_every_array():
    inputs, test = tokens_and_mask(), np.array([3, 7])
    for given in (inputs, records(inputs)):
        splits = data.make_splits(dataset(given), 2, ["all"], test_indices=test)
        assert data.is_streamed(splits.test) == isinstance(given, data.Records)
        found = data.read_all(splits.test).inputs
        jax.tree.map(np.testing.assert_array_equal, found, {k: v[test] for k, v in inputs.items()})
        first = data.example(splits.test)
        assert {name: leaf.shape for name, leaf in first.items()} == dict.fromkeys(inputs, (1, 5))


def test_records_of_pytrees():
    inputs = tokens_and_mask()
    found = records(Pair(**inputs))
    assert found.nbytes == sum(leaf.nbytes for leaf in inputs.values())
    taken = found[4:].take([1, 0])
    assert isinstance(taken, Pair) and taken.tokens.dtype == np.int32
    np.testing.assert_array_equal(taken.mask, inputs["mask"][[5, 4]])
    with pytest.raises(TypeError, match=r"write records\.sample for their shapes"):
        found.shape  # noqa: B018
    with pytest.raises(UserError, match="there is no sample to read"):
        data.Records.of_samples(lambda row: row, 0)
    with pytest.raises(UserError, match="sample_shape and dtype, or sample"):
        data.Records(lambda row: row, np.arange(3))


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (
            lambda i: {"a": np.zeros(2 + (i == 5)), "b": i},
            r"sample 5, inputs\['a'\], is float64 of",
        ),
        (
            lambda i: {"a": np.zeros(2), "b": float(i) if i else 0},
            r"sample 5, inputs\['b'\], is fl",
        ),
        (lambda i: {"a": i} if i < 5 else {"b": i}, r"sample 5 holds inputs\['b'\]; expected inp"),
        (lambda i: (i, i) if i < 5 else i, r"sample 5 is int64 of shape \(\); expected int64"),
    ],
)
def test_records_that_differ_from_the_first(read, text):
    with pytest.raises(UserError, match=text):
        data.Records.of_samples(read, COUNT).take([5])


def test_records_beside_arrays_become_records_of_pytrees():
    inputs = tokens_and_mask()
    photos = data.Records(lambda i: np.full((2, 2), i), np.arange(COUNT), (2, 2), np.dtype(int))
    found = as_inputs({"photo": photos[::-1], "text": records(inputs), "age": np.arange(COUNT)})
    assert isinstance(found, data.Records) and num_samples(found) == COUNT
    taken = found.take([0, 5])
    np.testing.assert_array_equal(taken["photo"][:, 0, 0], [23, 18])
    np.testing.assert_array_equal(taken["text"]["tokens"], inputs["tokens"][[0, 5]])
    np.testing.assert_array_equal(taken["age"], [0, 5])
    with pytest.raises(UserError, match=r"inputs\['age'\] 2, inputs\['photo'\] 24"):
        as_inputs({"photo": photos, "age": np.arange(2)})


def test_streams_are_the_batches_of_the_arrays():
    inputs = tokens_and_mask()
    order = data.epoch_indices(jax.random.key(0), COUNT, 10)
    arrays, streamed = (dataset(given) for given in (inputs, records(inputs)))
    for pair, indices in zip(data.feed(streamed, order), order, strict=True):
        jax.tree.map(
            np.testing.assert_array_equal, data.gather(*pair), data.gather(arrays, indices)
        )


class Samples(list):
    """Samples with dicts of inputs."""

    def __init__(self, inputs):
        site = np.array(["n", "s"])
        for i in range(COUNT):
            of_sample = jax.tree.map(lambda leaf, i=i: leaf[i], inputs)
            self.append({"inputs": of_sample, "label": i % 2, "site": site[i // 2 % 2]})


def test_samples_of_an_object():
    inputs = tokens_and_mask()
    inputs["tokens"][7], inputs["mask"][7] = inputs["tokens"][3], inputs["mask"][3]
    source = data.source_from(Samples(inputs))
    assert source.size == COUNT and source.digests[3] == source.digests[7] != source.digests[0]
    taken = source.take([1, 2]).inputs.take([0, 1])
    jax.tree.map(np.testing.assert_array_equal, taken, {k: v[1:3] for k, v in inputs.items()})
    other = data.source_from(Samples(inputs | {"mask": ~inputs["mask"]}))
    assert other.identity != source.identity == data.source_from(Samples(inputs)).identity


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"tokens": np.zeros(3)}, r"sample 5 have inputs\['tokens'\] \(3,\) float64; those of the"),
        ({"tokens": np.array([1, 2, 3.5, np.nan, 5]), "mask": np.ones(5, bool)}, "sample 5 have"),
        ((np.zeros(5), np.ones(5)), r"sample 5 have inputs\[0\]"),
    ],
)
def test_samples_whose_inputs_differ(inputs, text):
    samples = Samples(tokens_and_mask())
    samples[5]["inputs"] = inputs
    with pytest.raises(UserError, match=text):
        data.source_from(samples)


def test_a_nan_in_one_array_of_a_sample():
    samples = Samples({"age": np.ones((COUNT, 2), np.float32), "seen": np.ones(COUNT, bool)})
    samples[5]["inputs"] = {"age": np.float32([0, np.nan]), "seen": np.True_}
    with pytest.raises(UserError, match=r"the inputs\['age'\] of sample 5 hold NaN"):
        data.source_from(samples)


def npz(tmp_path, **arrays):
    columns = {
        "label": np.arange(COUNT) % 2,
        "site": np.array(["n", "s"])[np.arange(COUNT) // 2 % 2],
    }
    np.savez(tmp_path / "mine.npz", **columns, **arrays)
    return data.load("npz", data.Request(str(tmp_path / "mine.npz")))


def test_files_of_several_arrays(tmp_path):
    inputs = tokens_and_mask()
    arrays = {f"inputs/{name}": array for name, array in inputs.items()}
    source = npz(tmp_path, **arrays, **{"inputs/more/age": np.arange(COUNT)})
    jax.tree.map(
        np.testing.assert_array_equal, source.inputs, {**inputs, "more": {"age": np.arange(COUNT)}}
    )
    assert set(source.attributes) == {"label", "site"} and source.scale is None
    changed = npz(tmp_path, **arrays, **{"inputs/more/age": np.arange(COUNT) + 1})
    assert changed.identity != source.identity


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"inputs/a": np.zeros(COUNT), "inputs/b": np.zeros(3)},
            r"^inputs must have .* inputs\['a'\] 24, inputs\['b",
        ),
        ({"inputs/a": np.zeros(COUNT), "inputs": np.zeros(COUNT)}, "has an array 'inputs' and an"),
        ({"inputs": np.zeros(COUNT), "inputs/a": np.zeros(COUNT)}, "an array 'inputs/a' and anoth"),
        ({"inputs/a": np.zeros(0)}, "'inputs' hold no sample"),
        ({"inputs/a": np.zeros(3)}, r"column 'label' has shape \(24,\); expected \(3,\)"),
        ({"inputs/a": np.array(1.0)}, r"inputs\['a'\] must have one entry for each sample"),
    ],
)
def test_mistakes_in_files_of_several_arrays(arrays, text, tmp_path):
    with pytest.raises(UserError, match=text):
        npz(tmp_path, **arrays)


def test_images_among_the_arrays_are_scaled(tmp_path):
    pixels = np.full((COUNT, 4, 4, 3), 255, np.uint8)
    mask = np.ones((COUNT, 4, 4), np.uint8)
    age = np.arange(COUNT, dtype=np.float32)
    source = npz(tmp_path, **{"inputs/scan/photo": pixels, "inputs/mask": mask, "inputs/age": age})
    assert set(source.scale) == {"scan/photo"}
    found = source.preprocess("flip")(jax.tree.map(jnp.asarray, source.inputs), None, False)
    np.testing.assert_allclose(found["scan"]["photo"][0, 0, 0], [2.2489, 2.4286, 2.64], rtol=1e-4)
    np.testing.assert_array_equal(found["mask"], mask)
    assert found["mask"].dtype == np.uint8
    np.testing.assert_array_equal(found["age"], age)


def test_images_of_one_sample_are_flipped_together():
    scale = dict.fromkeys(("left", "right"), data.PixelScale((0.5,), (0.5,)))
    pixels = np.random.default_rng(0).integers(0, 255, (COUNT, 4, 4, 1)).astype(np.uint8)
    source = data.Source({"left": pixels, "right": pixels}, {}, "", scale=scale)
    found = source.preprocess("flip")(source.inputs, jax.random.key(0), True)
    np.testing.assert_array_equal(found["left"], found["right"])
    still = source.preprocess("none")(source.inputs, None, False)
    assert 0 < int((found["left"] != still["left"]).any((1, 2, 3)).sum()) < COUNT
    with pytest.raises(UserError, match="inputs have no leaf 'left'; they have other"):
        source.preprocess()({"other": pixels}, None, False)
    with pytest.raises(UserError, match="augmentation 'flip' is for images"):
        source._replace(scale={}).preprocess("flip")


def test_duplicates_are_those_of_all_arrays():
    inputs = tokens_and_mask()
    inputs["tokens"][:] = np.arange(COUNT * 5).reshape(COUNT, 5)
    inputs["tokens"][[1, 2]] = inputs["tokens"][0]
    inputs["mask"][:] = True
    inputs["mask"][2] = False  # the same tokens, another mask: no duplicate
    splits = data.make_splits(dataset(inputs), 2, ["all"], test_indices=np.array([1, 2]))
    first = int(0 in splits.ids_of("train"))
    found = data.summarize(splits, ["0", "1"])["duplicates"]
    assert found["within"]["test"] == 0
    assert (found["test_in_train"], found["test_in_validation"]) == (first, 1 - first)


def test_a_source_of_the_users_own():
    inputs = {"a": [[1.0], [2.0]], "b": np.ones(2)}
    side = groups.encode(["x", "y"])
    samples, _ = data.Source(inputs, {"side": side}, "side").grouped_by("side")
    assert samples.inputs["a"].shape == (2, 1)
