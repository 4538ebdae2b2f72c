"""One `DatasetSpec` object for each data set: everything that the library knows about it.

There are two kinds of data sets:

    images in files     `list_files` lists the files with their attributes; the library decodes,
                        resizes, checks and caches the images
    anything else       `load` returns the whole `Source`

`data.DATASETS` holds those that the library ships, and `data.register_dataset` adds your own.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from bap_jax.data.listing import Listing
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.errors import UserError


class ListFiles(Protocol):
    """Lists the images of a data set, without reading pixels."""

    def __call__(self, folder: str, /) -> Listing:
        """Lists the samples in `folder`, which is `--data_dir` as the user wrote it.

        Raises:
          UserError: files are missing; the message says which ones and where they come from.
        """
        ...


class LoadSource(Protocol):
    """Loads a data set."""

    def __call__(self, request: Request, /) -> Source:
        """Returns all samples with their attributes.

        Raises:
          UserError: something is wrong with the user's data.
        """
        ...


class WriteImages(Protocol):
    """Writes made-up images, or other samples, in the file layout of a data set."""

    def __call__(self, folder: Path, count: int, rng: np.random.Generator, /) -> None:
        """Writes `count` samples into the existing `folder`, where the data set finds them."""
        ...


class MadeUpImages(NamedTuple):
    """How to try a data set without its files.

    Attributes:
      write: writes the images.
      least: how many samples it takes for every group to appear in every split.
    """

    write: WriteImages
    least: int = 100


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A data set by name.

    Attributes:
      name: the value of `config.data.name` that selects it.
      list_files: lists the images; give either this or `load`.
      load: loads the samples.
      target: with `list_files`, the attribute that networks learn unless `config.data.target` names
        another one. A `Source` from `load` brings its own.
      group_by: which groups to constrain where `config.data.group_by` is empty; an expression as in
        `groups.grouping`.
      scale: with `list_files`, how stored pixels become inputs of the network.
      takes_dir: whether it reads the folder or file of `--data_dir`; if not, naming one is an
        error.
      takes_size: whether its images can be resized by `config.data.size`; if not, a size is an
        error.
      builder: with `list_files`, `"module:class"` of the `ListedBuilder` that prepares the files as
        array_record, imported when first needed; by default images are read from the user's files.
      made_up: how to make up samples for `config.data.synthetic`; None if that is not possible.
        With `load`, they are written into a folder, which it then finds in `request.dir`.
      experiment: path of its experiment file in the repository; empty if there is none.

    Raises:
      UserError: the name is empty, or neither or both of `list_files` and `load` are given, or
        `builder` or `made_up` is given with `load`.
    """

    name: str
    list_files: ListFiles | None = None
    load: LoadSource | None = None
    target: str = "label"
    group_by: str = ""
    scale: PixelScale = IMAGENET_SCALE
    takes_dir: bool = True
    takes_size: bool = True
    builder: str = ""
    made_up: MadeUpImages | None = None
    experiment: str = ""

    def __post_init__(self):
        if (self.list_files is None) == (self.load is None):
            raise UserError(
                f"data set {self.name!r} must have either list_files, for images in files, or "
                "load, for anything else."
            )
        if self.load is not None and self.builder:
            raise UserError(f"data set {self.name!r}: builder needs list_files.")
        if not self.name:
            raise UserError("a data set needs a name.")
