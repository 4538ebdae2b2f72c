"""The public API: `__all__` of each package is as tests/public_api.txt lists, and documented."""

import importlib
import inspect
from pathlib import Path

import pytest

LISTED = Path(__file__).with_name("public_api.txt").read_text().split()
PACKAGES = (
    "bap_jax",
    "bap_jax.audit",
    "bap_jax.reporting",
    "bap_jax.constraints",
    "bap_jax.data",
    "bap_jax.lagrangian",
    "bap_jax.models",
    "bap_jax.pipeline",
    "bap_jax.pruning",
    "bap_jax.reporting",
    "bap_jax.sweep",
    "bap_jax.training",
)
ADVICE = """
If this is meant: change tests/public_api.txt, too, and say in CHANGELOG.md what users get or lose.
A name that goes or changes stays for one release in the package's `former_names`.
"""


def listed(package):
    return [name.rpartition(".")[2] for name in LISTED if name.rpartition(".")[0] == package]


def test_every_listed_name_belongs_to_a_package():
    assert {name.rpartition(".")[0] for name in LISTED} == set(PACKAGES)
    assert sorted(set(LISTED)) == sorted(LISTED)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_api_changes_on_purpose_only(package):
    public, expected = set(importlib.import_module(package).__all__), set(listed(package))
    new, gone = sorted(public - expected), sorted(expected - public)
    assert public == expected, f"{package}: new names {new}, missing names {gone}.\n{ADVICE}"


@pytest.mark.parametrize("name", LISTED)
def test_every_public_name_is_documented(name):
    package, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(package), attribute)
    if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
        assert attribute == "Row" or attribute.isupper(), f"{name} has no docstring of its own"
        return  # a table or a tuple of names, which a comment explains
    text = inspect.getdoc(value) if not inspect.isclass(value) else value.__doc__
    made_by_python = f"{attribute}("  # the docstring of a NamedTuple or dataclass without one
    assert text and not text.startswith(made_by_python), f"{name} has no docstring"
