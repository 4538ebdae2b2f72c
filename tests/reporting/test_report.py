"""The report: its numbers, its table, its figure and its digests."""

import importlib.metadata
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import image
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from bap_jax import reporting
from tests.reporting.test_gaps import random_bits, split_means

TREE = {"a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.zeros(2, np.float32)}


def fake_report(method="ceag", seed=0, excess=(0.03, -0.01), tolerance=0.02):
    """A report with the same two groups on all splits."""
    names = ("left", "a very long name of a group")
    groups = [
        {
            "name": name,
            "n": 5,
            "dense_accuracy": 0.9,
            "sparse_accuracy": 0.8,
            "gap": 0.1,
            "excess_gap": gap,
        }
        for name, gap in zip(names, excess, strict=True)
    ]
    split = {
        "n": 10,
        "dense_accuracy": 0.975,
        "sparse_accuracy": 0.875,
        "overall_gap": 0.1,
        "max_excess_gap": max(excess),
        "min_excess_gap": min(excess),
        "pairwise_disparity": max(excess) - min(excess),
        "groups": groups,
    }
    splits = dict.fromkeys(("train", "validation", "test"), split)
    last = split | {"sparse_accuracy": 0.5, "max_excess_gap": 0.025, "pairwise_disparity": 0.07}
    return {
        "method": method,
        "seed": seed,
        "tolerance": tolerance,
        "epoch": 7,
        "sparsity": {"prunable": 0.95, "total": 0.9},
        "splits": splits,
        "last": {"epoch": 11, "splits": dict.fromkeys(splits, last)},
    }


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


TABLE = [
    ("left", ["90.00", "80.00", "3.00!"]),
    ("a very long name of a group", ["90.00", "80.00", "-1.00"]),
]


def test_table_marks_violations_alone():
    lines = reporting.format_report(fake_report()).splitlines()
    assert lines[0].startswith("CEAG, seed 0: 95.00 % of the prunable weights removed (90.00 % of")
    assert lines[0].endswith("tolerance 2 points")
    assert lines[2] == "SELECTED on validation, epoch 7"
    assert "LAST, epoch 11" in lines
    for name, cells in TABLE:
        row = next(line for line in lines if line.startswith(name))
        assert row.removeprefix(name).split() == cells * 3
    accuracy, largest, disparity = (
        [line.split()[-2:] for line in lines if line.startswith(label)]
        for label in ("accuracy", "max excess gap", "disparity")
    )
    assert accuracy == [["97.50", "87.50"], ["97.50", "50.00"]]
    assert [cells[-1] for cells in largest] == ["3.00!", "2.50!"]
    assert [cells[-1] for cells in disparity] == ["4.00", "7.00"]


def test_columns_of_the_table_are_aligned():
    lines = reporting.format_report(fake_report()).splitlines()
    for value, column in (("90.00", "dense"), ("80.00", "sparse"), ("3.00", "excess")):
        end = lines[3].index(column) + len(column)
        assert lines[5].index(value) + len(value) == end


@pytest.mark.parametrize(("tolerance", "marks"), [(0.03, 0), (0.025, 9), (0.0, 12), (1.0, 0)])
def test_table_marks_what_exceeds_the_tolerance(tolerance, marks):
    assert reporting.format_report(fake_report(tolerance=tolerance)).count("!") == marks


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("methods", [("ceag",), ("nft", "ceag"), ("nft", "el", "other")])
def test_the_figure_shows_means_over_seeds(methods, seeds, tmp_path, monkeypatch):
    drawn, save = [], Figure.savefig

    def spy(figure, *args, **options):
        drawn.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    reports = {
        method: [fake_report(method, seed, (0.01 * (i + seed), -0.01)) for seed in range(seeds)]
        for i, method in enumerate(methods)
    }
    reporting.draw_disparity(reports, tmp_path / "disparity.png")
    assert (tmp_path / "disparity.png").read_bytes().startswith(b"\x89PNG")
    assert np.ptp(image.imread(tmp_path / "disparity.png")[..., :3]) > 0.5
    suffix = f", {seeds} seeds" if seeds > 1 else ""
    for panel in drawn[0].axes:
        bars = [item for item in panel.containers if isinstance(item, BarContainer)]
        heights = [[bar.get_height() for bar in method] for method in bars]
        expected = [[i + (seeds - 1) / 2, -1] for i in range(len(methods))]
        np.testing.assert_allclose(heights, expected, atol=1e-9)
        assert all((method.errorbar is not None) == (seeds > 1) for method in bars)
        labels = panel.get_legend_handles_labels()[1]
        assert set(labels) == {"tolerance", *(f"{m.upper()}{suffix}" for m in methods)}


def stuck(size):
    """Feasibility of so many constraints, none of which is met."""
    history = reporting.History()
    for epoch in range(10):
        history.add(epoch, np.full(size, 0.1 * epoch), 0.1 + np.arange(size) / size)
    return reporting.feasibility(history, [f"g{i}" for i in range(size)])


def notes(**entries):
    """The last line of the text for a report with these entries."""
    return reporting.format_report(fake_report() | entries).splitlines()[-1]


def test_the_table_says_whether_the_constraints_could_be_met():
    worst = ", ".join(f"g{i} (not feasible as trained)" for i in (6, 5, 4, 3, 2))
    assert notes(feasibility=stuck(7)) == (
        "Constraints as observed in training: not feasible as trained; 7 not met, the worst: "
        f"{worst}."
    )
    met = {"status": "met", "constraints": [{"name": "a", "status": "met"}]}
    assert notes(feasibility=met) == "Constraints as observed in training: met."


def test_the_table_counts_constraints_that_are_not_listed():
    assert "; 1500 not met, the worst: g1499 (not" in notes(feasibility=stuck(1500))


def test_the_table_says_why_a_constraint_was_never_observed():
    result = reporting.feasibility(reporting.History(), "ab")
    table = reporting.format_report(fake_report() | {"feasibility": result}).splitlines()
    assert table[-2] == "Constraints as observed in training: not observed."
    assert table[-1].startswith(
        "Never observed: 2 constraints: a, b. A constraint is observed once"
    )
    assert "lower constraint.buffer_size" in table[-1]
    result = reporting.feasibility(reporting.History(), "ab", left_out="a")
    small = {"feasibility": result, "unconstrained_groups": {"a": 3}}
    table = reporting.format_report(fake_report() | small).splitlines()
    assert table[-2].startswith("Never observed: 1 constraint: b. ")


def test_the_table_says_that_some_constraints_were_observed():
    history = reporting.History()
    history.add(0, np.zeros(2), np.array([-0.1, np.nan]))
    table = reporting.format_report(
        fake_report() | {"feasibility": reporting.feasibility(history, "ab")}
    )
    status, unseen = table.splitlines()[-2:]
    assert status == "Constraints as observed in training: met where observed."
    assert unseen.startswith("Never observed: 1 constraint: b. ")


def test_the_table_names_groups_too_small_to_constrain():
    small = {f"g{i}": i for i in range(12)}
    listed = ", ".join(f"g{i} ({i})" for i in range(10))
    assert notes(unconstrained_groups=small) == (
        f"Too small to constrain: 12 groups. Training samples of each: {listed} and 2 more."
    )
    assert notes(unconstrained_groups={}, feasibility=None) == (
        "The smallest group has 5 validation samples: one more error lowers its accuracy by "
        "20.0 points."
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "Ran on 1 cpu device; data on the device; one program for each epoch."),
        (
            {"devices": 4, "processes": 2, "epoch": "loop", "data": "streamed"},
            "Ran on 4 cpu devices of 2 processes; data streamed; one program for each step.",
        ),
    ],
)
def test_the_table_says_how_the_run_was_executed(changes, text):
    execution = {
        "backend": "cpu",
        "devices": 1,
        "processes": 1,
        "epoch": "device",
        "data": "on the device",
    }
    assert notes(execution=execution | changes) == text
