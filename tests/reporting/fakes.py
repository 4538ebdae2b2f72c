"""Reports without a run."""

import json

import numpy as np

from bap_jax import reporting
from bap_jax.data import Splits
from bap_jax.reporting.verdicts import add_verdict
from bap_jax.types import Dataset
from tests.reporting.test_gaps import split_means
from tests.reporting.test_verdicts import predictions_of, random_split


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
            "harmed": 1,
            "helped": 0,
            "lower": None,
            "upper": None,
            "shrunken": None,
            "verdict": "not assessed",
        }
        for name, gap in zip(names, excess, strict=True)
    ]
    split = {
        "n": 10,
        "verdict": "not assessed",
        "why_not_assessed": "there are too few samples.",
        "flip_rate": 0.2,
        "expected_by_chance": None,
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


def judged_report(sizes=(50, 80, 200), flips=0.1, tolerance=0.02):
    """A report with the audit of random bits, and the predictions that it is from."""
    splits, predictions = {}, {}
    names = [f"group {i}" for i in range(len(sizes))]
    for seed, split in enumerate(("train", "validation", "test")):
        dense, sparse, ids = random_split(sizes, seed, flips)
        predictions[split] = predictions_of(dense, sparse, [ids])
        means = (split_means(bits.astype(bool), ids, len(sizes)) for bits in (dense, sparse))
        report = reporting.split_report(*means, names)
        splits[split] = add_verdict(report, predictions[split], [""] * len(sizes), tolerance)
    report = fake_report(tolerance=tolerance)
    return report | {"splits": splits, "last": {"epoch": 7, "splits": splits}}, predictions


RUN_GROUPS = ("group 0", "group 1", "group 2")


def write_metrics(path, steps=1000, constraints=12):
    """Steps with multipliers that grow with the number of the constraint, and one epoch."""
    with path.open("w") as file:
        for step in range(steps):
            row = {"step": step, "epoch": 0, "loss": 1 / (step + 1), "accuracy": 0.5}
            if constraints:
                row["multipliers"] = [step * i for i in range(constraints)]
                row["violation"] = [None if step < 10 else 0.1 * i for i in range(constraints)]
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"epoch": 0, "sparsity": 0.9}) + "\n")


def splits_of(predictions, shape=(8, 8), dtype=np.float32):
    test = predictions["test"]
    inputs = np.random.default_rng(0).random((len(test.label), *shape)).astype(dtype)
    data = Dataset(inputs, test.label, test.group)
    return Splits(data, data, data, num_classes=2, group_names=RUN_GROUPS)


def run_record(folder):
    """All that the page of a run is made from, of made-up predictions of images."""
    report, predictions = judged_report()
    report["sparsity"]["layers"] = {"dense/kernel": 0.95}
    write_metrics(folder / "metrics.jsonl", constraints=3)
    return reporting.RunRecord(
        report=report | {"selection": "last", "versions": {"jax": "1.2.3"}},
        predictions=predictions,
        splits=splits_of(predictions),
        metrics=folder / "metrics.jsonl",
        constraint_names=RUN_GROUPS,
        layer_sizes={"dense/kernel": 640},
        hashes={"predictions.npz": "abc123"},
    )
