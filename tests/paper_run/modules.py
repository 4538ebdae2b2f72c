"""Modules of the benchmarks, which are no package, and trees compared bit for bit."""

import importlib
from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def module(name):
    """A module of `accelerator_parts`."""
    return importlib.import_module(f"accelerator_parts.{name}")


def same(one, other):
    """Whether two trees have the same arrays, bit for bit."""
    one, other = (module("paper_files").to_arrays(tree) for tree in (one, other))
    assert one.keys() == other.keys()
    return all(one[key].tobytes() == other[key].tobytes() for key in one)
