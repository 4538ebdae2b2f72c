"""A user's own data: arrays in a file, images with a table, any Python object with samples.

In each, one column is the label and every other one groups the samples; a column `split` with the
words train, validation and test, or with True for the test split and False, fixes the splits.
Labels that are integers are class ids as they stand.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax.data.columns import (
    INPUTS,
    LABEL,
    PATH,
    attributes_of,
    check_columns,
    pop_splits,
    read_table,
)
from bap_jax.data.image_sets import source_of
from bap_jax.data.listing import Listing, digest_of, files_told
from bap_jax.data.records import Records
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.types import UserError

_GREY_SCALE = PixelScale((0.5,), (0.5,))


def load_arrays(request: Request) -> Source:
    """An `.npz` file: `inputs` `(sample, ...)`, `label` and any other columns `(sample,)`.

    Inputs of uint8 and shape `(sample, height, width, 1 or 3)` or `(sample, height, width)`, grey,
    are images, whose pixels are scaled; all others are what the network takes.

    Raises:
      UserError: there is no such file or column, or lengths differ.
    """
    path = Path(request.dir).expanduser()
    if path.suffix != ".npz" or not path.is_file():
        raise UserError(
            f"--data_dir={request.dir}: expected an .npz file with arrays 'inputs', 'label' and "
            "one for each attribute; there is none."
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            columns = dict(held)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read: {error}. Write it with numpy.savez, names as strings (not "
            "objects)."
        ) from error
    check_columns(path, columns, (INPUTS, LABEL))
    if request.size:
        raise UserError("arrays are not resized; write config.data.size=0.")
    inputs = columns.pop(INPUTS)
    if not inputs.ndim or not len(inputs):
        raise UserError(f"{path}: 'inputs' hold no sample.")
    for name, column in columns.items():
        if column.shape != inputs.shape[:1]:
            raise UserError(
                f"{path}: column {name!r} has shape {column.shape}; expected {inputs.shape[:1]}, "
                "one value for each of the inputs."
            )
    if inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[..., None]
    return _with_splits(inputs, columns, str(path))


def load_images(request: Request) -> Source:
    """A folder of images and a table of them: `path`, `label` and any number of other columns.

    Empty cells of these others are a group of their own, `(empty)`.

    Raises:
      UserError: the folder holds no image, the table is missing or lacks a column.
    """
    folder = Path(request.dir).expanduser()
    if not request.dir or not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(
            f"--data_dir={request.dir}: expected a folder of images with a table {request.table} "
            "(path,label and a column for each attribute); there is none."
        )
    columns = read_table(folder / request.table)
    names = columns.pop(PATH)
    there = np.array([(folder / name).is_file() for name in names])
    skipped = [
        f"{name}: there is no such file"
        for name, found in zip(names, there, strict=True)
        if not found
    ]
    names = [name for name, found in zip(names, there, strict=True) if found]
    if not names:
        raise UserError(
            f"none of the paths of {folder / request.table} is a file below {folder}; the first "
            f"is {skipped[0].partition(':')[0]!r}."
        )
    columns = {name: np.array(column)[there] for name, column in columns.items()}
    splits = pop_splits(columns, str(folder / request.table))
    listing = Listing(
        names,
        attributes_of(columns, str(folder / request.table)),
        lambda i: str(folder / names[i]),
        splits,
        *files_told([folder / name for name in names]),
        skipped,
    )
    return source_of(listing, request, LABEL)


def source_from(samples: Sequence[Mapping[str, Any]], request: Request | None = None) -> Source:
    """Any object with `__len__` and `__getitem__`, such as a map-style data set of PyTorch.

    All samples are asked for once, for the sake of their attributes.

    Args:
      samples: `samples[i]` is a mapping with `inputs`, an array, with `label`, and with any other
        names of groups. It is called from several threads.
      request: of which only `size` has a say, and that must be 0.

    Raises:
      UserError: there is no sample, or one lacks what the first one has.
    """
    if request is not None and request.size:
        raise UserError("samples of a Python object are not resized; write config.data.size=0.")
    if not (hasattr(samples, "__len__") and hasattr(samples, "__getitem__")):
        raise UserError(
            f"expected an object with __len__ and __getitem__; got {type(samples).__name__}."
        )
    if len(samples) == 0:
        raise UserError("the object holds no sample.")
    columns, digests = _read_all(samples)
    first = np.asarray(_sample(samples, 0)[INPUTS])
    records = Records(
        lambda row: np.asarray(_sample(samples, row)[INPUTS]),
        np.arange(len(samples)),
        first.shape,
        first.dtype,
    )
    return _with_splits(records, columns, "the object", digests)


def _read_all(samples):
    """Columns by name, and a digest of each input; all inputs must be like the first one."""
    first = _sample(samples, 0)
    inputs = np.asarray(first[INPUTS])
    columns = {name: [] for name in first if name != INPUTS}
    digests = []
    for i in range(len(samples)):
        sample = _sample(samples, i)
        if sample.keys() != first.keys():
            raise UserError(
                f"sample {i} has {', '.join(sample)}, the first one {', '.join(first)}; give every "
                "sample the same names."
            )
        array = np.asarray(sample[INPUTS])
        if (array.shape, array.dtype) != (inputs.shape, inputs.dtype):
            raise UserError(
                f"the inputs of sample {i} have shape {array.shape} and type {array.dtype}; those "
                f"of the first one {inputs.shape} and {inputs.dtype}. Make them alike."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"the inputs of sample {i} hold NaN or infinity.")
        for name, column in columns.items():
            column.append(sample[name])
        digests.append(_digest(array))
    return {name: np.array(column) for name, column in columns.items()}, np.array(digests, "uint64")


def _sample(samples, i):
    sample = samples[i]
    if not isinstance(sample, Mapping) or INPUTS not in sample or LABEL not in sample:
        told = ", ".join(sample) if isinstance(sample, Mapping) else type(sample).__name__
        raise UserError(
            f"sample {i} must be a mapping with {INPUTS!r}, {LABEL!r} and a name for each "
            f"attribute, such as {{'inputs': image, 'label': 1, 'race': 'White'}}; got {told}."
        )
    return sample


def _digest(array):
    return int.from_bytes(hashlib.blake2b(array.tobytes(), digest_size=8).digest(), "little")


def _with_splits(inputs, columns, where, digests=None):
    splits = pop_splits(columns, where)
    attributes = attributes_of(columns, where)
    listing = Listing((), attributes, lambda i: inputs[i], splits)
    content = inputs if digests is None else digests
    return Source(
        inputs,
        attributes,
        LABEL,
        listing.indices("test"),
        listing.indices("validation"),
        _scale(inputs, where),
        digests=digests,
        identity=f"{listing.digest()}-{digest_of(content)}",
    )


def _scale(inputs, where):
    """Of stored pixels; None where the inputs are no images."""
    if inputs.dtype != np.uint8 or len(inputs.shape) != 4:
        return None
    if inputs.shape[-1] not in (1, 3):
        raise UserError(
            f"{where}: inputs of uint8 and shape {inputs.shape} are taken for images, whose last "
            "axis is the colour: expected (sample, height, width, 1 or 3). Transpose them, or "
            "write them as float32, scaled as the network takes them."
        )
    return IMAGENET_SCALE if inputs.shape[-1] == 3 else _GREY_SCALE
