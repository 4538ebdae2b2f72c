"""docs/audit.md: its first command does what the page says, its flags are complete."""

import re
import shlex

import pytest
import yaml

from bap_jax.audit import arguments, command
from tests.docs.pages import blocks, commands, examples, read, working_in

PAGE = "docs/audit.md"


@pytest.fixture
def predictions(tmp_path):
    """The folder with the file that the first example writes, and the text that it shows."""
    [first, *_] = examples(PAGE)
    with working_in(tmp_path):
        exec(compile(first.code, PAGE, "exec"), {"print": lambda *_: None})
        yield first.output


def test_the_first_command_prints_what_the_example_prints(predictions, tmp_path, capsys):
    [[program, *words], *_] = commands(PAGE)
    assert program == "bap_jax.audit"
    assert command.main(words) == 1
    assert "It ends with exit code 1" in read(PAGE)
    assert capsys.readouterr().out == predictions
    assert {"audit.html", "audit.json", "predictions.csv"} == {p.name for p in tmp_path.iterdir()}


def test_every_flag_is_in_the_table():
    named = set(re.findall(r"--[a-z-]+", "".join(re.findall(r"^\| `--.*?\|", read(PAGE), re.M))))
    flags = {
        option for action in arguments.make_parser()._actions for option in action.option_strings
    }
    assert named == flags - {"-h", "--help"}


def test_the_job_audits_before_it_deploys():
    [text] = [block.text for block in blocks(PAGE) if block.language == "yaml"]
    jobs = yaml.safe_load(text)["jobs"]
    [run] = [s["run"] for s in jobs["audit"]["steps"] if "bap_jax.audit" in s.get("run", "")]
    _, _, program, *words = shlex.split(run)
    assert program == "bap_jax.audit" and arguments.parse(words).tolerance == 0.01
    assert jobs["deploy"]["needs"] == "audit"
