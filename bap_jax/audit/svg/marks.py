"""Elements of SVG as text. Positions `x` are percentages of the width, `y` pixels."""

from collections.abc import Iterable

from markupsafe import Markup, escape


def element(tag: str, content: str = "", **attributes: object) -> Markup:
    """One element; `class_` is written "class", and "_" in a name "-". Values are escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None and value != ""
    )
    if content:
        return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), written, escape(content))
    return Markup("<{}{}/>").format(Markup(tag), written)


def join(parts) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def across(x: float) -> str:
    """A horizontal position, as SVG writes it; kept within what browsers draw quickly."""
    return f"{min(max(x, -50), 150):.2f}".rstrip("0").rstrip(".") + "%"


def line(x1: float, y1: float, x2: float, y2: float | str, kind: str) -> Markup:
    """A straight line of the class `kind` (its colour and width are in the style sheet)."""
    return element("line", x1=across(x1), y1=pixels(y1), x2=across(x2), y2=pixels(y2), class_=kind)


def upright(x: float, height: float | str, kind: str, top: float = 0) -> Markup:
    """A vertical line from `top` down to `height`, which may be "100%"."""
    return line(x, top, x, height, kind)


def bar(x1: float, x2: float, y: float, height: float | str, kind: str) -> Markup:
    """A filled rectangle between two horizontal positions, in either order."""
    left, right = sorted((x1, x2))
    return element(
        "rect", x=across(left), y=pixels(y), width=across(right - left), height=pixels(height),
        class_=kind,
    )  # fmt: skip


def dot(x: float, y: float, radius: float, kind: str) -> Markup:
    """A circle."""
    return element("circle", cx=across(x), cy=pixels(y), r=pixels(radius), class_=kind)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> Markup:
    """Text at a fixed size; `anchor` is "start", "middle" or "end"."""
    return element("text", words, x=across(x), y=pixels(y), text_anchor=anchor, class_=kind)


def shorten(words: str, most: int) -> str:
    """`words`, or its beginning and "…" where it has more than `most` characters."""
    return words if len(words) <= most else words[: most - 1].rstrip() + "…"


def drawing(height: float, *parts: Markup, kind: str = "") -> Markup:
    """A drawing as wide as its place; hidden from screen readers, as its figure has the words."""
    return element(
        "svg", join(parts), class_=f"drawing {kind}".strip(), width="100%", height=pixels(height),
        aria_hidden="true", focusable="false",
    )  # fmt: skip


def strip(height: float, behind: Iterable[Markup], before: Iterable[Markup]) -> Markup:
    """The drawing of a row, as wide and as high as the row turns out.

    Args:
      height: in pixels; the least that it needs.
      behind: what reaches from the top to the bottom of the row.
      before: what is drawn around its middle, which is y = 0.
    """
    around = element("svg", join(before), y="50%", overflow="visible")
    inner = element(
        "svg", join([*behind, around]), class_="drawing", width="100%", height="100%",
        aria_hidden="true", focusable="false",
    )  # fmt: skip
    return element("span", inner, class_="strip", style=f"min-height:{pixels(height)}px")


def pixels(y: float | str) -> str:
    """A length in pixels, in as few characters as will do: a page may hold thousands."""
    if isinstance(y, str):
        return y
    return f"{y:.1f}".rstrip("0").rstrip(".") if y % 1 else f"{y:.0f}"


_SHAPES = {
    "diamond": "M0-7 7 0 0 7-7 0z",
    "square": "M-4.5-4.5h9v9h-9z",
    "triangle": "M0-5 4.5 3.5h-9z",
    "cross": "M-4-4 4 4M-4 4 4-4",
}


def shape(x: float, y: float, name: str, kind: str) -> Markup:
    """A mark that keeps its form whatever the width: diamond, square, triangle or cross."""
    path = element("path", d=_SHAPES[name], class_=kind)
    return element("svg", path, x=across(x), y=pixels(y), overflow="visible")
