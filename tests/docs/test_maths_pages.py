"""The pages on mathematics: numbers of equations, names and defaults of the config."""

import functools
import re
from pathlib import Path

import pytest

from bap_jax import lagrangian, training
from bap_jax.config import default_config, to_settings
from bap_jax.pruning import registry
from bap_jax.training import pruner_settings
from bap_jax.training.settings_checks import DUAL_RULES

DOCS = Path(__file__).parents[2] / "docs"
KEY = r"(?:dual|constraint|baseline|pruning|data|model|optimizer|dense)\.[a-z_]+"


def page(name):
    return (DOCS / f"{name}.md").read_text()


def config_value(key):
    """The default of a config key such as `dual.rule`; an error if there is none."""
    level = default_config()
    for name in key.split("."):
        level = level[name]
    return level


def test_the_label_of_an_equation_is_its_number():
    """Sphinx numbers labelled equations in their order; docstrings cite the numbers."""
    labels = re.findall(r"^:label: (.*)$", page("method"), flags=re.MULTILINE)
    assert len(labels) == page("method").count("```{math}") > 30
    assert labels == [f"eq-{number}" for number in range(1, len(labels) + 1)]


def test_other_pages_number_no_equations():
    """Their references are to the one page that does, and to equations that it has."""
    known = set(re.findall(r"^:label: (.*)$", page("method"), flags=re.MULTILINE))
    for name in ("methods", "pruning", "constrained_optimization"):
        assert ":label:" not in page(name)
        cited = set(re.findall(r"{eq}`(.*?)`", page(name)))
        assert cited and cited <= known


def test_sections_are_numbered_in_order():
    numbers = re.findall(r"^## (\d+)\. ", page("method"), flags=re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    for name in ("method", "methods"):
        cited = re.findall(r"[Ss]ections? (\d+)", page(name))
        assert cited and set(cited) - {"5.1"} <= set(numbers)


@pytest.mark.parametrize(
    "known",
    [training.METHODS, lagrangian.SCHEMES, DUAL_RULES, lagrangian.OVERALL_TERMS],
    ids=["methods", "schemes", "rules", "overall_terms"],
)
def test_every_name_is_explained(known):
    text = page("methods") + page("method")
    for name in known:
        assert f"`{name}`" in text or f"### {name}\n" in text, name


@pytest.mark.parametrize(
    "known",
    [registry.algorithm_names(), pruner_settings.SCHEDULES, registry.DISTRIBUTIONS],
    ids=["algorithms", "schedules", "distributions"],
)
def test_every_choice_of_pruning_is_explained(known):
    for name in known:
        assert f"\n| `{name}` |" in page("pruning"), name


@pytest.mark.parametrize("name", ["method", "methods"])
def test_config_keys_exist(name):
    keys = re.findall(rf"`({KEY})[`=]", page(name))
    assert len(keys) > 20
    for key in keys:
        config_value(key)


def test_config_defaults_are_those_of_the_tables():
    rows = re.findall(r"^\| `([a-z_.]+)` \| `?([^|`]+?)`? \|", page("methods"), flags=re.MULTILINE)
    keys = [(key, text) for key, text in rows if "." in key or key in ("tolerance", "scheme")]
    assert len(keys) > 10
    for key, text in keys:
        value = config_value(key)
        expected = f"{value:g}" if isinstance(value, float) else str(value)
        assert text.replace("−", "-") == expected, key


def test_config_defaults_are_those_in_brackets():
    """As in: `dual.penalty` (κ, 1)."""
    found = re.findall(rf"`({KEY})`\s\((?:[^(),]*,\s)?([\d.]+)\)", page("methods"))
    assert len(found) > 8
    for key, text in found:
        assert float(text) == config_value(key), key


def test_settings_that_restore_the_reference_are_accepted():
    found = re.findall(rf"To\s+restore:\s+`({KEY})=(.*?)`", page("method"))
    assert len(found) >= 5
    config = default_config()
    for key, text in found:
        *sections, name = key.split(".")
        level = functools.reduce(getattr, sections, config)
        assert level[name] != type(level[name])(text), f"{key} is {text} by default"
        level[name] = type(level[name])(text)
    to_settings(config)


def test_citations_in_the_code_can_be_found():
    """Docstrings cite equations and sections of the page by number, and only what ships."""
    package = DOCS.parent / "bap_jax"
    texts = {path: " ".join(path.read_text().split()) for path in package.rglob("*.py")}
    equations = page("method").count(":label: eq-")
    sections = re.findall(r"^## (\d+)\. ", page("method"), flags=re.MULTILINE)
    cited = []
    for path, text in texts.items():
        assert "recipes.md" not in text, path
        for match in re.finditer(r"(\S*)method\.md(.{0,80})", text):
            assert match.group(1).lstrip("(") == "docs/", f"{path}: write docs/method.md"
            numbers = re.findall(r"\((\d+)\)", match.group(2))
            where = re.findall(r"^, sections? (\d+)", match.group(2))
            assert numbers or where, f"{path}: cite an equation or a section"
            assert all(1 <= int(number) <= equations for number in numbers), path
            assert all(number in sections for number in where), path
            cited.append(path)
    assert len(cited) >= 8
