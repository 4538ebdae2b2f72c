"""A user's data: any Python object with samples, arrays in a file, images with a table.

    --config.data.name=module:function   the function returns an object with samples, or a `Source`
    --config.data.name=npz               --data_dir is an .npz file
    --config.data.name=images            --data_dir is a folder of images with a table

In each of them one column is the label, and every other column is an attribute by which samples can
be grouped. A column `split` fixes the splits, either with the words train, validation and test, or
with True for test samples and False for the others. Integer labels are class ids as they stand.
Labels with more than one number a sample, `(sample, ...)`, are for a loss of the user's own.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
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
from bap_jax.data.input_arrays import as_arrays, describe, is_alike, named_leaves
from bap_jax.data.inputs import check_one_length, num_samples, sample_of
from bap_jax.data.listing import Listing, digest_of
from bap_jax.data.records import Records
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.errors import UserError
from bap_jax.trees import leaves_by_path

_GREY_SCALE = PixelScale((0.5,), (0.5,))


def source_from(samples: Sequence[Mapping[str, Any]], request: Request | None = None) -> Source:
    """Makes a source from any object with `__len__` and `__getitem__`, as PyTorch's data sets have.

    All samples are read once for their attributes, and again whenever they are needed.

    Args:
      samples: `samples[i]` is a mapping with `inputs`, an array or a pytree of arrays; `label`; and
        the sample's group in any number of other attributes. It is called from several threads.
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
    records = Records.of_samples(lambda row: _sample(samples, row)[INPUTS], len(samples))
    return _with_splits(records, columns, "the object", digests)


def _read_all(samples):
    """Columns by name, and a digest of each input; all samples must match the first one."""
    first = _sample(samples, 0)
    like = as_arrays(first[INPUTS])
    columns = {name: [] for name in first if name != INPUTS}
    digests = []
    for i in range(len(samples)):
        sample = _sample(samples, i)
        if sample.keys() != first.keys():
            raise UserError(
                f"sample {i} has {', '.join(sample)}, the first one {', '.join(first)}; give every "
                "sample the same names."
            )
        inputs = as_arrays(sample[INPUTS])
        if not is_alike(inputs, like):
            raise UserError(
                f"the inputs of sample {i} have {describe(inputs)}; those of the first one "
                f"{describe(like).removeprefix('shape ')}. Give all the same."
            )
        for name, array in named_leaves(inputs):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(f"the {name} of sample {i} hold NaN or infinity.")
        for name, column in columns.items():
            column.append(sample[name])
        digests.append(_digest(inputs))
    return columns, np.array(digests, "uint64")


def _sample(samples, i):
    sample = samples[i]
    if not isinstance(sample, Mapping) or INPUTS not in sample or LABEL not in sample:
        got = ", ".join(sample) if isinstance(sample, Mapping) else type(sample).__name__
        raise UserError(
            f"sample {i} must be a mapping with {INPUTS!r}, {LABEL!r} and a name for each "
            f"attribute, such as {{'inputs': image, 'label': 1, 'race': 'White'}}; got {got}."
        )
    return sample


def _digest(inputs):
    digest = hashlib.blake2b(digest_size=8)
    for array in jax.tree.leaves(inputs):
        digest.update(array.tobytes())
    return int.from_bytes(digest.digest(), "little")


def load_arrays(request: Request) -> Source:
    """An `.npz` file: `inputs` `(sample, ...)`, `label` and any other columns `(sample,)`.

    Inputs of uint8 and shape `(sample, height, width, 1 or 3)`, or `(sample, height, width)` for
    grey, are images, whose pixels are scaled. All other inputs enter the network as they are.
    Several arrays, such as `inputs/tokens` and `inputs/mask`, make a dict of inputs.

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
    check_one_length(inputs)
    size = num_samples(inputs)
    if not size:
        raise UserError(f"{path}: 'inputs' hold no sample.")
    for name, column in columns.items():
        shape = column.shape[:1] if name == LABEL else column.shape
        if shape != (size,):
            raise UserError(
                f"{path}: column {name!r} has shape {column.shape}; expected ({size},), "
                "one value for each of the inputs."
            )
    if isinstance(inputs, np.ndarray) and inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[..., None]
    return _with_splits(inputs, columns, str(path))


def _read_npz(path):
    """Arrays by name, with inputs and labels among them."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = _nested_inputs(dict(arrays), path)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read: {error}. Write it with numpy.savez, names as strings (not "
            "objects)."
        ) from error
    check_columns(path, columns, (INPUTS, LABEL))
    return columns


def _nested_inputs(arrays, path):
    """Arrays by name, those called `inputs/…` as a dict, which may hold other dicts."""
    columns = {}
    for name, array in arrays.items():
        *outer, last = name.split("/") if name.startswith(f"{INPUTS}/") else [name]
        place = columns
        for part in outer:
            place = place.setdefault(part, {})
        if not isinstance(place, dict) or last in place:
            raise UserError(
                f"{path} has an array {name!r} and another one above or below it, as {INPUTS} and "
                f"{INPUTS}/tokens; keep one of them."
            )
        place[last] = array
    return columns


def load_images(request: Request) -> Source:
    """A folder of images and a table of them: `path`, `label` and any number of other columns.

    Raises:
      UserError: the folder holds no image, or the table is missing, lacks a column or is damaged.
    """
    folder = Path(request.dir).expanduser()
    if not request.dir or not folder.is_dir() or not any(folder.iterdir()):
        raise UserError(
            f"--data_dir={request.dir}: expected a folder of images with a table {request.table} "
            "(path, label and a column for each attribute); there is no such folder, or it is "
            "empty."
        )
    table = folder / request.table
    if not table.is_file():
        raise UserError(
            f"there is no table {table}; expected a CSV file with columns path, label and one for "
            "each attribute. Name another one by config.data.table."
        )
    cells, line = read_table(table)
    names = [_local_path(folder, name) for name in cells.pop(PATH)]
    exists = np.array([(folder / name).is_file() for name in names])
    missing = [name for name, is_file in zip(names, exists, strict=True) if not is_file]
    names = [name for name, is_file in zip(names, exists, strict=True) if is_file]
    if not names:
        raise UserError(
            f"none of the paths of {table} is a file in {folder}; the first is {missing[0]!r}."
        )
    rows = np.flatnonzero(exists)
    columns = {name: [column[row] for row in rows] for name, column in cells.items()}

    def place(sample):
        return f"line {line(int(rows[sample]))}"

    splits = pop_splits(columns, str(table), place)
    attributes = attributes_of(columns, str(table), place)
    listing = Listing.from_paths(
        [folder / name for name in names],
        attributes.groupings,
        names=names,
        splits=splits,
        skipped=[f"{name}: there is no such file" for name in missing],
        missing=attributes.missing,
    )
    return source_from_listing(listing, request, target=LABEL)


def _with_splits(inputs, columns, where, digests=None):
    """A source from inputs and columns `(sample,)` by name."""
    splits = pop_splits(columns, where)
    own_labels = _own_labels(columns[LABEL])
    if own_labels is not None:
        del columns[LABEL]
    attributes = attributes_of(columns, where)
    listing = Listing((), attributes.groupings, lambda i: np.empty(0), splits)
    content = inputs if digests is None else digests
    return Source(
        inputs,
        attributes.groupings,
        LABEL,
        listing.indices("test"),
        listing.indices("validation"),
        _scale(inputs, where),
        digests=digests,
        identity=f"{listing.digest()}-{_digest_of_all(content)}",
        labels=own_labels,
        missing=attributes.missing,
    )


def _local_path(folder, name):
    """A path of a table, also of one that was written on Windows."""
    return name if "\\" not in name or (folder / name).is_file() else name.replace("\\", "/")


def _own_labels(labels):
    """Labels of more than one number a sample, `(sample, ...)`; None for others."""
    if isinstance(labels, np.ndarray):
        return labels if labels.ndim > 1 else None
    return as_arrays(labels) if np.ndim(labels[0]) else None


def _digest_of_all(content):
    """Changes with any of the arrays."""
    if isinstance(content, np.ndarray):
        return digest_of(content)
    return "-".join(f"{name}:{digest_of(array)}" for name, array in named_leaves(content))


def _scale(inputs, where):
    """Scale of stored pixels, in a pytree by leaf; None if the inputs are not images."""
    sample = sample_of(inputs)
    if not isinstance(sample, jax.ShapeDtypeStruct):
        scales = {path: _scale_of(leaf) for path, leaf in leaves_by_path(sample).items()}
        return {path: scale for path, scale in scales.items() if scale} or None
    if sample.dtype == np.uint8 and len(sample.shape) == 3 and not _scale_of(sample):
        raise UserError(
            f"{where}: inputs of uint8 and shape {(num_samples(inputs), *sample.shape)} are "
            "treated as images, whose last axis is the colour: expected (sample, height, width, 1 "
            "or 3). Transpose them, or write them as float32, scaled for the network."
        )
    return _scale_of(sample)


def _scale_of(sample):
    """Scale of the pixels of one sample `(height, width, 1 or 3)` uint8; None for other samples."""
    if sample.dtype != np.uint8 or len(sample.shape) != 3 or sample.shape[-1] not in (1, 3):
        return None
    return IMAGENET_SCALE if sample.shape[-1] == 3 else _GREY_SCALE
