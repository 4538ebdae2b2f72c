"""Formulas as MathML in the HTML pages, by the converter that ships with docutils.

Sphinx's default, MathJax, is loaded from the network when a page is opened. MathML needs neither
the network nor a script: Firefox, Safari and Chromium (from version 109 on) draw it themselves.

In conf.py:

    sys.path.insert(0, str(Path(__file__).parent / "_ext"))
    extensions = ["myst_parser", "mathml"]
    html_math_renderer = "mathml"
"""

import html
from xml.etree import ElementTree

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

ElementTree.register_namespace("", "http://www.w3.org/1998/Math/MathML")
_TAG = "{http://www.w3.org/1998/Math/MathML}"
_ACCENTS = set("~ˆ^¯‾ˉ")
# Themes let long formulas scroll sideways, which makes some browsers show a bar at the side, too.
_STYLE = "overflow-y: hidden; margin: 0.8em 0; padding: 0.2em 0"


def to_mathml(source: str, as_block: bool) -> str:
    """MathML of a LaTeX formula.

    Raises:
      MathError: the converter does not know a command.
    """
    # The one entity that the converter writes; XML itself does not know it.
    text = tex2mathml(source, as_block=as_block).replace("&ApplyFunction;", "\u2061")
    root = ElementTree.fromstring(text)
    for node in root.iter(f"{_TAG}munderover"):
        _index_beside(node)
    for table in root.iter(f"{_TAG}mtable"):
        _align_columns(table)
    return ElementTree.tostring(root, encoding="unicode")


def _index_beside(node):
    """The converter sets the index of an accented letter below it; LaTeX sets it beside it."""
    base, index, accent = node
    if accent.text not in _ACCENTS:
        return
    for child in (base, index, accent):
        node.remove(child)
    node.tag = f"{_TAG}msub"
    accented = ElementTree.SubElement(node, f"{_TAG}mover", accent="true")
    accented.extend((base, accent))
    node.append(index)


def _align_columns(table):
    """Chromium reads the alignment of a table's columns from styles alone."""
    aligned = "right left" if table.get("class") == "ams-align" else ""
    sides = table.get("columnalign", aligned).split()
    for row in table if sides else ():
        for i, cell in enumerate(row):
            cell.set("style", f"text-align: {sides[i % len(sides)]}")


def _convert(node, as_block):
    """MathML of a formula; what cannot be converted is a warning, which stops `make docs`."""
    try:
        return to_mathml(node.astext(), as_block)
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def visit_inline(translator, node):
    """A formula within a line."""
    translator.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """A formula of its own, with its number where it has a label."""
    translator.body.append(
        translator.starttag(node, "div", CLASS="math notranslate nohighlight", STYLE=_STYLE)
    )
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_convert(node, as_block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
