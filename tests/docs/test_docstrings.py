"""Examples in docstrings run and print what they say; every package has some."""

import doctest
import importlib
import warnings
from collections import Counter
from pathlib import Path

import pytest

import bap_jax

ROOT = Path(bap_jax.__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.glob("bap_jax/**/*.py")
    if ">>> " in path.read_text()
)
# Modules with examples, at least; add one to a package rather than lower its number.
AT_LEAST = {
    "reporting": 4,
    "constraints": 2,
    "data": 6,
    "lagrangian": 2,
    "models": 6,
    "pruning": 12,
    "sweep": 6,
    "training": 3,
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0, "the difference is printed above"


@pytest.mark.parametrize("package", AT_LEAST)
def test_packages_have_examples(package):
    counts = Counter(name.split(".")[1] for name in MODULES)
    assert counts[package] >= AT_LEAST[package]
