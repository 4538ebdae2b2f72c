"""Nothing in the package depends on the name of a method, scheme, algorithm, data set or network.

What they need and can do are fields and class attributes, so that a user's own can have them, too.
"""

import ast
from pathlib import Path

import pytest

import bap_jax
from bap_jax import pruning
from bap_jax.data import DATASETS
from bap_jax.lagrangian import SCHEMES
from bap_jax.models.registry import NETWORKS
from bap_jax.training import METHODS, OPTIMIZERS

PACKAGE = Path(bap_jax.__file__).parent
NAMES = {*METHODS, *OPTIMIZERS, *SCHEMES, *pruning.algorithm_names(), *DATASETS, *NETWORKS}
# It looks for the modules that contain the code of an updater of jaxpruner.
MAY_READ_MODULES = {"pruning/from_jaxpruner.py"}


def strings(node):
    """Texts in a comparison, or in the tuples, lists and sets that it compares with."""
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} - {None}


def compared_names(tree):
    """Registered names with which a program compares anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            yield from strings(node) & NAMES


@pytest.mark.parametrize(
    "code",
    ["method == 'ceag'", "name in ('nft', x)", "s not in {'snip'}", "match s:\n case 'mlp': pass"],
)
def test_comparisons_are_found(code):
    assert list(compared_names(ast.parse(code)))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_nothing_is_compared_with_a_registered_name(path):
    text = path.read_text()
    found = sorted(set(compared_names(ast.parse(text))))
    assert not found, f"{path} compares with {found}; make what differs a field of what is named"
    if path.relative_to(PACKAGE).as_posix() not in MAY_READ_MODULES:
        assert "__module__" not in text, f"{path}: where a class is defined must not matter"
