"""What a user asks of a data set: where its files are, and how images should be prepared."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from bap_jax.data.source import Source


class CheckSource(Protocol):
    """Finds mistakes in what is asked of a data set before any image is decoded."""

    def __call__(self, source: "Source", /) -> object:
        """Raises `UserError` for a mistake.

        Args:
          source: complete except for its images, which have no pixels yet: its inputs have shape
            `(sample, 0)`.
        """
        ...


class Request(NamedTuple):
    """Where a data set is, and how its images should be prepared.

    Attributes:
      dir: folder or file of the data.
      size: width and height of images in pixels; 0 keeps them as stored.
      table: for a folder of the user's images, the file in `dir` with one row for each image.
      synthetic: how many images to make up in the data set's own file layout; 0 reads the files in
        `dir`.
      cache: folder that keeps prepared and decoded images; None keeps nothing.
      check: called before images are decoded, so that a mistake costs no time.
    """

    dir: str = ""
    size: int = 0
    table: str = "labels.csv"
    synthetic: int = 0
    cache: Path | None = None
    check: CheckSource | None = None
