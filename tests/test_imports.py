"""Imports point one way, the core is generic, and importing stays light."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bap_jax

PACKAGE = Path(bap_jax.__file__).parent

# A package may import itself and packages above it in this list; those in one row not each other.
LAYERS = [
    ["errors", "_deprecated", "_clock"],
    ["types"],
    ["trees", "_user_code", "jaxprs", "axis_layouts", "_tables"],
    ["kernel_uses"],
    ["groups", "metrics", "sharding", "compilation"],
    ["models", "pruning", "constraints", "data", "audit"],
    ["lagrangian"],
    ["training"],
    ["reporting"],
    ["metric_rows", "metric_writers", "live_line", "checkpoint", "config_identity"],
    ["pipeline"],
    ["user_samples", "config_network", "_watching"],
    ["config", "presets", "workdir", "api"],
    ["__init__"],
    ["task"],
    ["_run_files", "dense_network"],
    ["experiment"],
    ["profiling", "flags"],
    ["main", "sweep", "sweeping", "compare"],
]
RANK = {package: rank for rank, row in enumerate(LAYERS) for package in row}
CORE = ("models", "pruning", "constraints", "lagrangian", "groups", "metrics", "types")
OUTSIDE = (
    "absl",
    "ml_collections",
    "orbax",
    "sklearn",
    "matplotlib",
    "tqdm",
    "pathlib",
    "os",
    "json",
)
ONE_PACKAGE = {
    "jinja2": "audit",
    "markupsafe": "audit",
    "flax": "models",
    "orbax": "checkpoint",
    "sklearn": "data",
    "grain": "data",
    "PIL": "data",
    "matplotlib": "reporting",
    "tensorflow_datasets": "data",
    "safetensors": "models",
    "torch": "models",
    "tensorboardX": "metric_writers",
    "wandb": "metric_writers",
}
ONE_FILE = {
    "jinja2": "audit/page.py",
    "grain": "data/stream.py",
    "PIL": "data/images.py",
    "tensorflow_datasets": "data/builders/tfds.py",
    "safetensors": "models/torch_weights.py",
    "torch": "models/torch_weights.py",
}


def package_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imported(path):
    """Full names of everything that a file imports, at any depth."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the full name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def packages_imported(path):
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "bap_jax":
            yield parts[1] if len(parts) > 1 else "__init__"


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    package = package_of(path)
    for other in packages_imported(path):
        assert other == package or RANK[other] < RANK[package], f"{package} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_core_knows_no_outside(path):
    roots = {name.split(".")[0] for name in imported(path)}
    if package_of(path) in CORE:
        assert not roots & set(OUTSIDE), f"{path} is core and knows {roots & set(OUTSIDE)}"


@pytest.mark.parametrize(("library", "only"), ONE_PACKAGE.items())
def test_one_package_imports_it(library, only):
    found = [path for path in FILES if library in {n.split(".")[0] for n in imported(path)}]
    assert {package_of(path) for path in found} == {only}


@pytest.mark.parametrize(("library", "only"), ONE_FILE.items())
def test_one_file_imports_it(library, only):
    found = [path for path in FILES if library in {n.split(".")[0] for n in imported(path)}]
    assert [str(path.relative_to(PACKAGE)) for path in found] == [only]


@pytest.mark.parametrize("package", CORE)
def test_the_core_names_no_data_set(package):
    files = [path for path in FILES if package_of(path) == package]
    assert files
    for path in files:
        found = re.findall(r"digits|config_?dict|celeba|utkface|cifar-", path.read_text().lower())
        assert not found, f"{path} knows {found}"


def loaded_by(statement):
    """The libraries that a new process has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_an_error_of_the_audit_is_caught_without_jax():
    assert not {"jax", "flax"} & loaded_by("from bap_jax import UserError, audit")


def test_the_package_alone_loads_no_jax():
    assert not {"jax", "flax", "numpy"} & loaded_by("import bap_jax, bap_jax._deprecated")


def test_every_public_name_and_module_is_found_when_used():
    assert {"prune_and_tune", "pipeline", "training", "audit"} <= set(dir(bap_jax))
    for name in bap_jax.__all__:
        assert getattr(bap_jax, name) is getattr(bap_jax, name)
    loaded = loaded_by("import bap_jax; bap_jax.training.make_trainer")
    assert "jax" in loaded
    with pytest.raises(AttributeError, match="no attribute 'prune_and_tone'"):
        _ = bap_jax.prune_and_tone


def test_importing_needs_none_of_the_heavy_libraries():
    heavy = {
        "tensorflow",
        "torch",
        "orbax",
        "sklearn",
        "matplotlib",
        "ml_collections",
        "grain",
        "PIL",
        "tensorflow_datasets",
        "safetensors",
        "tensorboardX",
        "wandb",
    }
    assert not heavy & loaded_by("from bap_jax import *")
