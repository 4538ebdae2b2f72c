"""README and documentation as tests read them: blocks of code, commands, inline code, links."""

import ast
import contextlib
import importlib
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bap_jax.data.datasets import DATASETS
from bap_jax.lagrangian.schemes import SCHEMES
from bap_jax.pruning.registry import _ALGORITHMS
from bap_jax.training.methods import METHODS
from bap_jax.training.optimizer_registry import OPTIMIZERS
from bap_jax.training.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
_GENERATED = ("_build", "notebooks", "project")  # in docs/, by the build
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))
    if path.relative_to(ROOT).parts[1:2] not in [(name,) for name in _GENERATED]
)
_FENCE = re.compile(r"^( *)(`{3,}|:{3,})(\S*)(.*)$")
_FILE = re.compile(r"# ([\w/]+\.py)\n")
_REGISTRIES = (DATASETS, SCHEMES, _ALGORITHMS, METHODS, OPTIMIZERS, SCHEDULES)
_PYTHON = (".venv/bin/python", "python", "python3")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
      language: the word after the fence.
      text: its content, without the indentation of a list.
      line: of the fence, from 1.
    """

    language: str
    text: str
    line: int


class Example(NamedTuple):
    """A Python block and what its page says it prints, in a text block right below; or None.

    Attributes:
      file: name of the file that the block is to be saved as, given in a comment in its first
        line; None for code that is run where it stands.
    """

    code: str
    output: str | None
    line: int

    @property
    def file(self):
        match = _FILE.match(self.code)
        return match and match.group(1)


def read(page: str) -> str:
    """The text of a page; of a Python file its docstring."""
    text = (ROOT / page).read_text()
    return text if page.endswith(".md") else ast.get_docstring(ast.parse(text)) + "\n"


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page."""
    found, fence, lines = [], None, []
    for number, line in enumerate(read(page).splitlines(), 1):
        match = _FENCE.match(line)
        if fence is None and match:
            fence, lines = (match.group(2), match.group(3), number), []
        elif fence and match and match.group(2) == fence[0] and not match.group(3):
            found.append(Block(fence[1], textwrap.dedent("\n".join(lines) + "\n"), fence[2]))
            fence = None
        elif fence:
            lines.append(line)
    assert fence is None, f"{page}: the block of line {fence[2]} does not end"
    return found


def examples(page: str) -> list[Example]:
    """Python blocks in order, each with its output."""
    found, lines = blocks(page), read(page).splitlines()
    out = []
    for i, block in enumerate(found):
        if block.language != "python":
            continue
        end = block.line + block.text.count("\n") + 1
        below = found[i + 1] if i + 1 < len(found) else None
        printed = None
        if (
            below
            and below.language == "text"
            and not any(map(str.strip, lines[end : below.line - 1]))
        ):
            printed = below.text
        out.append(Example(block.text, printed, block.line))
    return out


def prose(page: str) -> str:
    """A page without its blocks of code, indented ones included."""
    lines, fence = [], None
    for line in read(page).splitlines():
        match = _FENCE.match(line)
        if match and fence in (None, match.group(2)):
            fence = match.group(2) if fence is None else None
        elif fence is None and not line.startswith("    "):
            lines.append(line)
    return "\n".join(lines)


def inline_code(page: str) -> list[str]:
    """What stands between single backticks in a page's prose."""
    paragraphs = re.split(r"\n\s*\n", prose(page))
    spans = [code for text in paragraphs for code in re.findall(r"`([^`]+)`", text)]
    return [" ".join(code.split()) for code in spans]


def commands(page: str) -> list[list[str]]:
    """Words of every command of a page that runs Python: the program first, then its arguments.

    `.venv/bin/python -m bap_jax.main --x=1` is `["bap_jax.main", "--x=1"]`.
    """
    texts = [block.text for block in blocks(page) if block.language in ("bash", "sh", "console")]
    texts += re.findall(r"(?:^ {4,}\S.*\n)+", read(page), flags=re.MULTILINE)
    found = []
    for text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if any(f"{python} " in line for python in _PYTHON):
                found += _programs(line)
    return [words for i, words in enumerate(found) if words not in found[:i]]


def _programs(line):
    for command in re.split(r"[;&|]+ |; ", line):
        words = shlex.split(command, comments=True)
        starts = [i for i, word in enumerate(words) if word in _PYTHON]
        if starts:
            program = words[starts[0] + 1 :]
            program = program[1:] if program[:1] == ["-m"] else program
            if program and re.match(r"bap_jax\.|benchmarks/", program[0]):
                yield program


def links(page: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "code", prose(page)))


def anchors(page: str) -> set[str]:
    """Names by which headings can be linked to, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "") for text in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in plain}


def write_files(page: str) -> None:
    """Writes the files that a page shows into the current folder."""
    for example in examples(page):
        if example.file:
            Path(example.file).write_text(example.code)


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Runs in a folder in which modules are found, too.

    Afterwards these modules are forgotten, and so is what they registered.
    """
    held = [dict(registry) for registry in _REGISTRIES]
    modules, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
        for registry, names in zip(_REGISTRIES, held, strict=True):
            registry.clear()
            registry.update(names)
