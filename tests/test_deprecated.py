"""Former names still work, warn, and name what has taken their place."""

import ast
import importlib
from pathlib import Path

import jax.numpy as jnp
import optax
import pytest

import bap_jax
from bap_jax import lagrangian
from bap_jax.config import default_config
from bap_jax.constraints import constraint_values

ROOT = Path(bap_jax.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if "= former_names(" in path.read_text()
)


def former_names(module):
    """The dict that a module passes to `former_names`, read from its text."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "former_names":
            return ast.literal_eval(node.args[1])
    raise AssertionError(f"{path} has no former names")


def test_modules_with_former_names_are_found():
    assert {"constraints", "data", "lagrangian", "models", "task"} <= set(MODULES)


@pytest.mark.parametrize(
    ("module", "name", "new"), [(m, *pair) for m in MODULES for pair in former_names(m).items()]
)
def test_a_former_name_is_the_new_object_and_says_so(module, name, new):
    where, _, attribute = new.rpartition(".")
    with pytest.warns(DeprecationWarning, match=rf"bap_jax\.{module}\.{name} is now {new}"):
        found = getattr(importlib.import_module(f"bap_jax.{module}"), name)
    assert found is getattr(importlib.import_module(where), attribute)


def test_former_fields_of_a_formulation():
    formulation = lagrangian.gradient_ascent(optax.sgd(1.0))
    values, dual = constraint_values(jnp.ones(1)), formulation.init(1)
    with pytest.warns(DeprecationWarning, match="is now Formulation.update_multipliers"):
        assert formulation.ascend(values, dual).multipliers == 1
    with pytest.warns(DeprecationWarning, match="is now Formulation.penalty_term"):
        assert formulation.term(values, dual) == 0


def test_the_former_name_of_on_progress(monkeypatch, tmp_path):
    from bap_jax.sweep import api

    monkeypatch.setattr(api, "check_programs", lambda sweep: [])
    monkeypatch.setattr(api, "run_in_process", lambda sweep, on_progress: on_progress)
    with pytest.warns(DeprecationWarning, match=r"say=…\) is now run_sweep\(on_progress=…\)"):
        used = api.run_sweep(default_config(), tmp_path, {"seed": "0:2"}, say=print)
    assert used is print


def test_what_never_existed_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'bap_jax\.data' has no attribute 'nothing'"):
        bap_jax.data.nothing  # noqa: B018
