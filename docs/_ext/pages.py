"""Pages made from files that lie outside docs/: the notebooks, and Markdown files of the root.

They are written to docs/notebooks/ and docs/project/, which git ignores, before the pages are read.
Notebooks are shown as they are, without being run: they hold no outputs.
"""

import json
import re
from pathlib import Path

_ROOT_FILES = ("CONTRIBUTING.md", "CHANGELOG.md", "BUILD_NOTES.md")
_LINK = r"\]\((?:\.\./)*"  # to a file of the root, from there or from a page in docs/


def setup(app):
    """Called by Sphinx."""
    docs = Path(app.srcdir)
    for path in sorted((docs.parent / "notebooks").glob("*.ipynb")):
        _write(docs / "notebooks" / f"{path.stem}.md", notebook_page(path.read_text(), path.name))
    for name in _ROOT_FILES:
        text = (docs.parent / name).read_text()
        _write(docs / "project" / name.lower(), re.sub(r"\]\((?:\./)?docs/", "](/", text))
    app.connect("source-read", _point_to_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def notebook_page(text: str, name: str) -> str:
    """Markdown of a notebook: its texts as they are, its code in blocks.

    Args:
      text: the notebook's JSON.
      name: of its file, which the page names.
    """
    cells = json.loads(text)["cells"]
    title, *others = ["".join(cell["source"]) for cell in cells]
    kinds = [cell["cell_type"] for cell in cells[1:]]
    pieces = [title, f"The file `notebooks/{name}` runs in Jupyter and in Colab."]
    for kind, source in zip(kinds, others, strict=True):
        pieces.append(f"```python\n{source}\n```" if kind == "code" else source)
    return "\n\n".join(pieces) + "\n"


def _write(path, text):
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _point_to_pages(app, name, source):
    """Links to those files, which hold in the repository, lead to their pages."""
    text = re.sub(_LINK + r"notebooks/(\w+)\.ipynb", r"](/notebooks/\1.md", source[0])
    for file in _ROOT_FILES:
        text = re.sub(_LINK + re.escape(file), f"](/project/{file.lower()}", text)
    source[0] = re.sub(_LINK + r"README\.md", "](/index.md", text)
