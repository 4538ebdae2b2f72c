"""The report: its numbers and its digests."""

import importlib.metadata
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import reporting
from tests.reporting.test_gaps import random_bits, split_means

TREE = {"a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.zeros(2, np.float32)}


def test_split_report_by_hand():
    ids = np.repeat([0, 1], [4, 1])
    dense, sparse = np.ones(5, bool), np.array([1, 1, 1, 0, 0], bool)
    report = reporting.split_report(
        split_means(dense, ids, 2), split_means(sparse, ids, 2), ("x", "y")
    )
    groups = report.pop("groups")
    assert report == pytest.approx(
        {
            "n": 5,
            "dense_accuracy": 1.0,
            "sparse_accuracy": 0.6,
            "overall_gap": 0.4,
            "max_excess_gap": 0.6,
            "min_excess_gap": -0.15,
            "pairwise_disparity": 0.75,
        }
    )
    assert [group.pop("name") for group in groups] == ["x", "y"]
    assert groups[0] == pytest.approx(
        {"n": 4, "dense_accuracy": 1, "sparse_accuracy": 0.75, "gap": 0.25, "excess_gap": -0.15}
    )
    assert groups[1] == pytest.approx(
        {"n": 1, "dense_accuracy": 1, "sparse_accuracy": 0.0, "gap": 1.0, "excess_gap": 0.6}
    )


def test_split_report_is_plain_numbers():
    dense, sparse, ids = random_bits(0)
    report = reporting.split_report(split_means(dense, ids, 4), split_means(sparse, ids, 4), "abcd")
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize(
    "other",
    [
        {**TREE, "b": np.array([0, 1e-30], np.float32)},  # value
        {**TREE, "b": np.array([0, -0.0], np.float32)},  # bit
        {**TREE, "b": np.zeros(2, np.int32)},  # type of the same bytes
        {**TREE, "b": np.zeros((2, 1), np.float32)},  # shape of the same bytes
        {"a": TREE["a"], "c": TREE["b"]},  # name
        {"a": {"v": TREE["a"]["w"]}, "b": TREE["b"]},  # name below
        {"a": {"w": TREE["a"]["w"].T}, "b": TREE["b"]},
        {"a": TREE["a"]},
        {"a": {"w": TREE["b"]}, "b": TREE["a"]["w"]},
    ],
)
def test_digest_changes_with_the_tree(other):
    assert reporting.tree_sha256(other) != reporting.tree_sha256(TREE)


@pytest.mark.parametrize(
    "same",
    [
        {"b": TREE["b"].copy(), "a": dict(TREE["a"])},
        jax.tree.map(jnp.asarray, TREE),
        {**TREE, "a": {"w": np.asfortranarray(TREE["a"]["w"])}},
        {**TREE, "a": {"w": np.repeat(TREE["a"]["w"], 2, axis=1)[:, ::2]}},
    ],
    ids=["order of keys", "on a device", "memory order", "strides"],
)
def test_digest_changes_with_nothing_else(same):
    assert reporting.tree_sha256(same) == reporting.tree_sha256(TREE)


def test_digest_takes_keys_and_half_precision():
    one, other = jax.random.key(0), jax.random.key(1)
    assert reporting.tree_sha256({"k": one}) != reporting.tree_sha256({"k": other})
    half = [
        reporting.tree_sha256({"w": jnp.zeros(2, dtype)}) for dtype in (jnp.bfloat16, jnp.float16)
    ]
    assert half[0] != half[1]


def test_versions_name_what_shapes_the_numbers():
    versions, packages = (
        reporting.versions(),
        {"bap_jax", "jax", "jaxlib", "flax", "optax", "numpy"},
    )
    assert set(versions) == {"python", "device", *packages}
    assert versions["jax"] == jax.__version__


def test_sources_that_are_not_installed_have_no_version(monkeypatch):
    installed = importlib.metadata.version

    def version(name):
        if name == "bap_jax":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert reporting.versions()["bap_jax"] == "not installed"
    assert reporting.versions()["jax"] == jax.__version__
