"""A user's data: any Python object with samples, arrays in a file, images with a table.

    --config.data.name=module:function   the function returns an object with samples, or a `Source`
    --config.data.name=npz               --data_dir is an .npz file
    --config.data.name=images            --data_dir is a folder of images with a table

In each of them one column is the label, and every other column is an attribute by which samples can
be grouped. A column `split` fixes the splits, either with the words train, validation and test, or
with True for test samples and False for the others. Integer labels are class ids as they stand.
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
from bap_jax.data.image_sets import source_from_listing
from bap_jax.data.listing import Listing, digest_of
from bap_jax.data.records import Records
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.errors import UserError

_GREY_SCALE = PixelScale((0.5,), (0.5,))


def source_from(samples: Sequence[Mapping[str, Any]], request: Request | None = None) -> Source:
    """Makes a source from any object with `__len__` and `__getitem__`, as PyTorch's data sets have.

    All samples are read once for their attributes, and again whenever they are needed.

    Args:
      samples: `samples[i]` is a mapping with `inputs`, an array; `label`; and the sample's group in
        any number of other attributes. It is called from several threads.
      request: its size must be 0; everything else is ignored.

    Raises:
      UserError: there is no sample, or a sample does not match the first one.

    Example:
      >>> rows = [{"inputs": np.ones(3), "label": i % 2, "site": "AB"[i // 2]} for i in range(4)]
      >>> source_from(rows).grouped_by("site")[1]
      ('A', 'B')
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
    """Columns by name, and a digest of each input; all samples must match the first one."""
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
                f"of the first one {inputs.shape} and {inputs.dtype}. Give all the same."
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
        got = ", ".join(sample) if isinstance(sample, Mapping) else type(sample).__name__
        raise UserError(
            f"sample {i} must be a mapping with {INPUTS!r}, {LABEL!r} and a name for each "
            f"attribute, such as {{'inputs': image, 'label': 1, 'race': 'White'}}; got {got}."
        )
    return sample


def _digest(array):
    return int.from_bytes(hashlib.blake2b(array.tobytes(), digest_size=8).digest(), "little")


def load_arrays(request: Request) -> Source:
    """An `.npz` file: `inputs` `(sample, ...)`, `label` and any other columns `(sample,)`.

    Inputs of uint8 and shape `(sample, height, width, 1 or 3)`, or `(sample, height, width)` for
    grey, are images, whose pixels are scaled. All other inputs enter the network as they are.

    Raises:
      UserError: there is no such file or column, or lengths differ.
    """
    path = Path(request.dir).expanduser()
    if path.suffix != ".npz" or not path.is_file():
        raise UserError(
            f"--data_dir={request.dir}: expected an .npz file with arrays 'inputs', 'label' and "
            "one for each attribute; there is no such file."
        )
    columns = _read_npz(path)
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


def _read_npz(path):
    """Arrays by name, with inputs and labels among them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = dict(arrays)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read: {error}. Write it with numpy.savez, names as strings (not "
            "objects)."
        ) from error
    check_columns(path, columns, (INPUTS, LABEL))
    return columns


def load_images(request: Request) -> Source:
    """A folder of images and a table of them: `path`, `label` and any number of other columns.

    An empty cell in one of the other columns counts as the group `(empty)`.

    Raises:
      UserError: the folder holds no image, or the table is missing or lacks a column.
    """
    folder = Path(request.dir).expanduser()
    if not request.dir or not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(
            f"--data_dir={request.dir}: expected a folder of images with a table {request.table} "
            "(path, label and a column for each attribute); there is no such folder, or it is "
            "empty."
        )
    table = folder / request.table
    cells = read_table(table)
    names = cells.pop(PATH)
    exists = np.array([(folder / name).is_file() for name in names])
    missing = [name for name, is_file in zip(names, exists, strict=True) if not is_file]
    names = [name for name, is_file in zip(names, exists, strict=True) if is_file]
    if not names:
        raise UserError(
            f"none of the paths of {table} is a file in {folder}; the first is {missing[0]!r}."
        )
    columns = {name: np.array(column)[exists] for name, column in cells.items()}
    splits = pop_splits(columns, str(table))
    listing = Listing.from_paths(
        [folder / name for name in names],
        attributes_of(columns, str(table)),
        names=names,
        splits=splits,
        skipped=[f"{name}: there is no such file" for name in missing],
    )
    return source_from_listing(listing, request, target=LABEL)


def _with_splits(inputs, columns, where, digests=None):
    """A source from inputs and columns `(sample,)` by name."""
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
    """Scale of stored pixels; None if the inputs are not images."""
    if inputs.dtype != np.uint8 or len(inputs.shape) != 4:
        return None
    if inputs.shape[-1] not in (1, 3):
        raise UserError(
            f"{where}: inputs of uint8 and shape {inputs.shape} are treated as images, whose last "
            "axis is the colour: expected (sample, height, width, 1 or 3). Transpose them, or "
            "write them as float32, scaled for the network."
        )
    return IMAGENET_SCALE if inputs.shape[-1] == 3 else _GREY_SCALE
