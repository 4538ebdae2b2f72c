"""Formulas as MathML in the HTML pages, by the converter that ships with docutils.

Sphinx's default, MathJax, is loaded from the network when a page is opened. MathML needs neither
the network nor a script: Firefox, Safari and Chromium (from version 109 on) draw it themselves.

In conf.py:

    sys.path.insert(0, str(Path(__file__).parent / "_ext"))
    extensions = ["myst_parser", "mathml"]
    html_math_renderer = "mathml"
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)


def _convert(node, as_block):
    """MathML of a formula; what cannot be converted is a warning, which stops the build."""
    source = node.astext()
    try:
        return tex2mathml(source, as_block=as_block)
    except MathError as error:
        logger.warning("formula %r: %s", source, error, location=node)
        return f"<code>{source}</code>"


def visit_inline(translator, node):
    """A formula within a line."""
    translator.body.append(_convert(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    """A formula of its own, with its number where it has a label."""
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append(_convert(node, as_block=True))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
