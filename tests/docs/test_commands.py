"""Commands and names in README and documentation exist: programs, flags, values, files, targets."""

import ast
import importlib
import re
import runpy
from pathlib import Path
from typing import NamedTuple

import pytest
from ml_collections import ConfigDict

from bap_jax import compare, metric_writers
from bap_jax.audit import arguments as audit_arguments
from bap_jax.config import check_flags, default_config, to_settings
from bap_jax.errors import UserError
from bap_jax.sweep.axes import parse_axis
from bap_jax.training.dual_rules import check_is_read
from tests.docs.pages import (
    PAGES,
    ROOT,
    commands,
    examples,
    inline_code,
    read,
    working_in,
    write_files,
)
from tests.experiment_files import config_of

SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("benchmarks/*.py"))
SOURCES = [*PAGES, *SCRIPTS, "bap_jax/main.py", "bap_jax/sweep/__main__.py"]
SOURCES += sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("experiments/*.py"))
FILES_OF = {
    "bap_jax.main": ["bap_jax/main.py", "bap_jax/flags.py"],
    "bap_jax.sweep": ["bap_jax/sweep/__main__.py", "bap_jax/flags.py"],
    "benchmarks/accelerator.py": [
        "benchmarks/accelerator.py",
        "benchmarks/accelerator_parts/paper_flags.py",
    ],
}
AXES = ("sweep", "axis")
FILES_WITHOUT_FLAG = {"benchmarks/pack_images.py": 2}
# Words in capitals that a user replaces, ellipses, and variables of a shell's loop.
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]*\b|…|\$")
OTHER_PROGRAMS = ("xla_", "log_samples", "output_path")
# Alone these are mistakes: they need `model.pretrained`, too.
WITH_OTHERS = ("dense.epochs", "model.pretrained_head")


class Flag(NamedTuple):
    """How a script defines a flag: `kind` is what follows DEFINE_; `known` values of an enum."""

    kind: str
    known: tuple = ()


def defined_in(file):
    """Flags by name, as the calls in a file define them; nothing is run."""
    found, module = {}, {}
    if file.startswith("bap_jax/"):
        name = file.removesuffix(".py").replace("/", ".")
        module = vars(importlib.import_module(name))
    for call in ast.walk(ast.parse((ROOT / file).read_text())):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        kind = call.func.attr.removeprefix("DEFINE_")
        if kind == call.func.attr:
            continue
        name = call.args[0].value
        if kind == "alias":
            found[name] = found[call.args[1].value]
        elif kind == "enum":
            known = eval(ast.unparse(call.args[2]), {**module})
            found[name] = Flag(kind, tuple(known))
        else:
            found[name] = Flag(kind)
    return found


def flags_of(program):
    """Flags by name of a script or module."""
    files = FILES_OF.get(program) or [program]
    if re.search(
        r"^ *from bap_jax import .*\bflags\b", (ROOT / files[0]).read_text(), re.MULTILINE
    ):
        files = [*files, "bap_jax/flags.py"]
    return {name: flag for file in files for name, flag in defined_in(file).items()}


def flags_of_parser(parser):
    """Flags by name of a program that has a parser of its own."""
    found = {}
    for action in parser._actions:
        kind = "enum" if action.choices else getattr(action.type, "__name__", "string")
        for option in action.option_strings:
            found[option.lstrip("-")] = Flag(kind, tuple(action.choices or ()))
    return found


def check_value(name, value, flag):
    """Raises where a flag cannot have the value, or one of those joined by `|`."""
    if PLACEHOLDER.search(value):
        return
    if "|" in value:
        for alternative in value.split("|"):
            check_value(name, alternative, flag)
        return
    if flag.kind == "integer":
        int(value)
    elif flag.kind == "float":
        float(value)
    elif flag.kind in ("bool", "boolean"):
        assert value in ("", "true", "false"), f"--{name}={value}"
    elif flag.kind == "enum":
        assert value in flag.known, f"--{name}={value}: known are {flag.known}"


def parsed(key, text):
    """The value that `--config.KEY=TEXT` sets, of the type of the key's default."""
    level = default_config()
    for name in key.split("."):
        level = level[name]
    if isinstance(level, str):
        return text
    return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))


def config_from(page, value):
    """The config of `--config=FILE:SETTING`; a file may be one that the page shows."""
    file, _, setting = value.partition(":")
    if file in [example.file for example in examples(page)]:
        return runpy.run_path(file)["get_config"]()
    assert (ROOT / file).is_file(), f"there is no {file}"
    assert Path(file).parent.name == "experiments"
    return config_of(Path(file).stem, setting)


def apply(config, key, text):
    """Sets a key as `--config.KEY=TEXT` does."""
    check_flags([f"--config.{key}={text}"])
    if not PLACEHOLDER.search(text):
        config.update_from_flattened_dict({key: parsed(key, text)})


def check_axis(config, text):
    """Every value of an axis can be set."""
    if PLACEHOLDER.search(text):
        return
    axis = parse_axis(text)
    for value in axis.values:
        member = ConfigDict(config.to_dict())
        member.update_from_flattened_dict({axis.key: value})
        check_is_read(axis.key, to_settings(member.to_dict()))


def check_command(page, words):
    program, *arguments = words
    if program == "bap_jax.audit":
        audit_arguments.parse(arguments)
        return
    if program == "bap_jax.compare":
        compare.make_parser().parse_intermixed_args(arguments)
        return
    flags, config, axes, keys = flags_of(program), None, [], []
    files = [argument for argument in arguments if not argument.startswith("--")]
    if len(files) == FILES_WITHOUT_FLAG.get(program):
        arguments = [argument for argument in arguments if argument not in files]
    for argument in sorted(arguments, key=lambda text: not text.startswith("--config=")):
        assert argument.startswith("--"), f"{argument!r} is no flag"
        name, _, value = argument[2:].partition("=")
        if name == "config" and not PLACEHOLDER.search(value):
            config = config_from(page, value)
        elif name.startswith("config."):
            keys.append(name.removeprefix("config."))
            apply(config or default_config(), keys[-1], value)
        elif name in AXES and name in flags:
            axes.append(value)
        else:
            assert name in flags, f"--{name} is no flag of {program}: {', '.join(flags)}"
            check_value(name, value, flags[name])
    if config is not None:
        settings = to_settings(config.to_dict())
        for key in keys:
            check_is_read(key, settings)
    for axis in axes:
        check_axis(config, axis)


@pytest.mark.parametrize("source", [source for source in SOURCES if commands(source)])
def test_every_command_parses(source, tmp_path, monkeypatch):
    # What a command needs beside this package is on its page, and need not be installed here.
    monkeypatch.setattr(metric_writers, "check_installed", lambda name: None)
    with working_in(tmp_path):
        if source.endswith(".md"):
            write_files(source)
        for words in commands(source):
            try:
                check_command(source, words)
            except Exception as error:
                raise AssertionError(f"{source}: {' '.join(words)}: {error!r}") from error


def test_commands_are_found():
    """The checks above would pass on nothing."""
    programs = {words[0] for page in PAGES for words in commands(page)}
    assert programs >= {"bap_jax.main", "bap_jax.sweep", "bap_jax.audit", "benchmarks/grid.py"}
    assert sum(len(commands(page)) for page in PAGES) > 30


DIGITS = "--config=experiments/digits.py"


@pytest.mark.parametrize(
    ("words", "mistake"),
    [
        (["bap_jax.main", DIGITS, "--confg.seed=1"], "--confg.seed is no flag"),
        (["bap_jax.main", "--config=experiments/digit.py"], "there is no experiments/digit.py"),
        (["bap_jax.main", f"{DIGITS}:fast"], "unknown setting 'fast'"),
        (["bap_jax.main", DIGITS, "--config.dual.learning_rate=1"], "has no effect"),
        (["bap_jax.sweep", DIGITS, "--sweep=dual.learning_rate=0.1,1"], "has no effect"),
        (["bap_jax.main", DIGITS, "--config.methd=nft"], "unknown config key config.methd"),
        (["bap_jax.main", DIGITS, "--config.method=ceeg"], "unknown method 'ceeg'"),
        (["bap_jax.main", DIGITS, "--config.tolerance=-1"], "tolerance"),
        (["bap_jax.main", DIGITS, "--epoch=never"], "--epoch=never: known are"),
        (["bap_jax.main", DIGITS, "--jobs=2"], "--jobs is no flag of bap_jax.main"),
        (["bap_jax.sweep", DIGITS, "--sweep=method=nft,ceeg"], "unknown method 'ceeg'"),
        (["bap_jax.sweep", DIGITS, "--chunk=many"], "invalid literal"),
        (["benchmarks/grid.py", DIGITS, "--split=train"], "--split=train: known are"),
        (["benchmarks/grids.py", DIGITS], "No such file"),
        (["bap_jax.audit", "p.csv", "--tolerance=0.1", "--group=race"], "unrecognized .*--group="),
        (["bap_jax.audit", "p.csv", "--tolerance=small"], "expected a fraction"),
        (["bap_jax.audit", "p.csv"], "a tolerance is missing"),
        (
            ["bap_jax.audit", "p.csv", "--tolerance=0.1", "--on-undecided=no"],
            "invalid choice: 'no'",
        ),
        (["bap_jax.main", "config=experiments/digits.py"], "is no flag"),
        (["bap_jax.compare", "runs/digits", "--page=a.html"], "unrecognized arguments: --page"),
        (["bap_jax.compare", "--out=a.html"], "required: RUN"),
    ],
)
def test_mistakes_are_found(words, mistake):
    with pytest.raises((AssertionError, UserError, ValueError, OSError), match=mistake):
        check_command("README.md", words)


ALL_FLAGS = [
    *(flags_of_parser(module.make_parser()) for module in (audit_arguments, compare)),
    *(flags_of(program) for program in (*FILES_OF, *SCRIPTS)),
]


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_the_text_exist(page):
    for code in inline_code(page):
        for word in code.split() if code.startswith("--") else ():
            name, _, value = word.lstrip("-").partition("=")
            if word.startswith("--") and not name.startswith(OTHER_PROGRAMS):
                check_flag(name, value.strip("\"'"))


def check_flag(name, value):
    """A flag of any program, alone."""
    if PLACEHOLDER.search(name):
        return
    if not name.startswith("config."):
        kinds = [flags[name] for flags in ALL_FLAGS if name in flags]
        assert kinds, f"--{name} is no flag of any program"
        assert name == "config" or any(fits(name, value, kind) for kind in kinds), value
        return
    key, config = name.removeprefix("config."), default_config()
    for alternative in value.split("|") if value else ("…",):
        apply(config, key, alternative)
        if key not in WITH_OTHERS:
            to_settings(config.to_dict())


def fits(name, value, flag):
    try:
        check_value(name, value or "…", flag)
    except (AssertionError, ValueError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_files_in_the_text_exist(page):
    words = [word for code in inline_code(page) for word in code.split()]
    words += [word for command in commands(page) for word in command]
    for word in words:
        path = word.removeprefix("--config=").partition(":")[0].rstrip(".,")
        if re.fullmatch(r"(experiments|benchmarks|notebooks|docs|tests)/[\w./-]*", path):
            generated = path.startswith("docs/_build")
            assert generated or (ROOT / path).exists(), f"{page}: there is no {path}"
        elif re.fullmatch(r"[a-z_]+(/[a-z_]+)+\.py", path):
            places = (ROOT / path, ROOT / "bap_jax" / path)
            assert any(place.is_file() for place in places), f"{page}: there is no {path}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_names_in_the_text_exist(page):
    for code in inline_code(page):
        match = re.fullmatch(r"(?:python -m )?(bap_jax(?:\.[A-Za-z_]\w*)+)(?:\(.*)?", code)
        if match:
            resolve(match.group(1))


def resolve(name):
    """The object of a dotted name; a former name is an error, as in every test."""
    module, *attributes = name.split(".")
    found = importlib.import_module(module)
    for attribute in attributes:
        module = f"{module}.{attribute}"
        if not hasattr(found, attribute):
            found = importlib.import_module(module)
        else:
            found = getattr(found, attribute)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for target in re.findall(r"(?:^ {4}|`|^)make ([a-z-]+)", read(page), flags=re.MULTILINE):
        assert target in targets, f"{page}: make {target}"
