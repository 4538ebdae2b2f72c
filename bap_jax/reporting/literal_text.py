"""Figures of matplotlib that show names literally, whatever signs they hold.

matplotlib takes what stands between two `$` for mathematics, leaves labels that begin with `_` out
of legends, warns of every character that its font lacks, and with `text.usetex` in a user's
settings hands all texts to LaTeX.
"""

import contextlib
import warnings
from collections.abc import Iterator

from bap_jax._tables.shown import clipped

_WIDEST_LABEL = 80


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Figures that are made and saved in this block show all texts literally."""
    import matplotlib

    with (
        matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}),
        warnings.catch_warnings(),
    ):
        # A box stands for such a character; the page shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def legend_label(text: str) -> str:
    """A text as an entry of a legend: shown also if it begins with an underscore."""
    text = clipped(text, _WIDEST_LABEL)
    return f" {text}" if text.startswith("_") else text
