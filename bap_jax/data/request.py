"""What a loader is told about the data set that is wanted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    """Where a data set lies, and how its images are wanted.

    Attributes:
      dir: folder, or file, in which the user's data lie.
      size: pixels of either side of an image; 0: as stored.
      table: file in `dir` with a row for each image, where the data set is a folder of the user's.
      synthetic: 0 for the user's own files; else how many images to make up in the same layout.
      cache: folder that keeps what was prepared; None keeps nothing.
      check: called with the `Source` but for its images, which have no pixels yet, before they are
        decoded: a mistake in what is wanted of it should not cost that time.
    """

    dir: str = ""
    size: int = 0
    table: str = "labels.csv"
    synthetic: int = 0
    cache: Path | None = None
    check: Callable[[Any], None] | None = None
