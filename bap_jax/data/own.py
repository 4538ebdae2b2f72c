"""A user's own data: arrays in a file, images with a table, any Python object with samples.

In each, one column is the label and every other one groups the samples; a column `part` with the
words train, validation and test, or with True for the test part and False, fixes the parts. Labels
that are integers are class ids as they stand.
"""

import csv
import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bap_jax import groups
from bap_jax.data.image_sets import source_of
from bap_jax.data.listing import Listing, digest_of, files_told, open_table
from bap_jax.data.parts import PARTS
from bap_jax.data.records import Records
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.groups import Grouping
from bap_jax.types import UserError

LABEL, PART, INPUTS, PATH = "label", "part", "inputs", "path"
_MOST_CLASSES = 100_000
_LARGEST_GAP = 100  # between the two largest class ids
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_EMPTY = "(empty)"
_PART_OF_WORD = {part: part for part in PARTS} | {"val": "validation", "valid": "validation"}
_PART_OF_TEST = {"true": "test", "false": "train"}
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
    _check_columns(path, columns, (INPUTS, LABEL))
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
    return _with_parts(inputs, columns, str(path))


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
    columns = _read_table(folder / request.table)
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
    parts = _parts(columns.pop(PART, None), str(folder / request.table))
    listing = Listing(
        names,
        _attributes(columns, str(folder / request.table)),
        lambda i: str(folder / names[i]),
        parts,
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
    return _with_parts(records, columns, "the object", digests)


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


def _with_parts(inputs, columns, where, digests=None):
    parts = _parts(columns.pop(PART, None), where)
    attributes = _attributes(columns, where)
    listing = Listing((), attributes, lambda i: inputs[i], parts)
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


def _attributes(columns, where):
    """Groupings by name of column; texts of integers are the integers they stand for."""
    columns = {name: _integers_if_told(column) for name, column in columns.items()}
    for name, column in columns.items():
        if column.dtype.kind == "f" and np.isnan(column).any():
            raise UserError(
                f"{where}: the column {name!r} holds NaN: leave these samples out, or name a group."
            )
    attributes = {name: groups.encode(column) for name, column in columns.items()}
    if np.issubdtype(columns[LABEL].dtype, np.integer):
        attributes[LABEL] = _class_ids(columns[LABEL], where)
    return attributes


def _integers_if_told(column):
    # Not 01, which may stand beside 1.
    if column.dtype.kind != "U" or not all(_INTEGER.fullmatch(text) for text in column):
        return column
    return column.astype(np.int64)


def _class_ids(labels, where):
    """Integers are ids already: classes that no sample has keep their places."""
    if labels.min() < 0:
        raise UserError(f"{where}: class ids must be ≥ 0; got {labels.min()}.")
    if labels.max() >= _MOST_CLASSES:
        raise UserError(f"{where}: class ids must be < {_MOST_CLASSES}; got {labels.max()}.")
    last = np.unique(labels)[-2:]
    if last[-1] - last[0] > _LARGEST_GAP:
        raise UserError(
            f"{where}: class id {last[-1]} stands apart, the others end at {last[0]}; expected ids "
            "without large gaps. Leave out samples of no class (such as 255), number the classes "
            "anew, or give them names instead of numbers."
        )
    names = tuple(map(str, range(int(labels.max()) + 1)))
    return Grouping(labels.astype(np.int32)[:, None], names)


def _parts(column, where):
    """`(sample,)` int8 index into `PARTS`; None where there is no such column."""
    if column is None:
        return None
    words = [str(value).strip().lower() for value in np.asarray(column)]
    expected = f"expected {', '.join(PARTS)}, or True for the test part and False"
    for word in words:
        if word not in _PART_OF_TEST and word not in _PART_OF_WORD:
            raise UserError(f"{where}: the column 'part' holds {word!r}; {expected}.")
    known = _PART_OF_TEST if words[0] in _PART_OF_TEST else _PART_OF_WORD
    if not set(words) <= set(known):
        raise UserError(
            f"{where}: the column 'part' holds names of parts beside True and False; {expected}."
        )
    return np.array([PARTS.index(known[word]) for word in words], np.int8)


def _read_table(path: Path) -> dict[str, list[str]]:
    if not path.is_file():
        raise UserError(
            f"there is no table {path}; expected a CSV file with columns path, label and one for "
            "each attribute. Name another one by config.data.table."
        )
    with open_table(path) as file:
        rows = csv.DictReader(file)
        rows.fieldnames = names = [name.strip() for name in rows.fieldnames or []]
        if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
            raise UserError(f"{path}: cells must be separated by commas; line 1 is {names[0]!r}.")
        _check_columns(path, dict.fromkeys(names), (PATH, LABEL))
        if len(set(names)) < len(names):
            raise UserError(f"{path} has a column twice; it has {', '.join(names)}.")
        table = {name: [] for name in names}
        for number, row in enumerate(rows, 2):
            if None in row:
                raise UserError(f"{path}, line {number} has more cells than line 1.")
            for name in names:
                cell = row[name]
                if cell is None or (not cell.strip() and name in (PATH, LABEL, PART)):
                    raise UserError(f"{path}, line {number}: the column {name!r} is empty.")
                table[name].append(cell.strip() or _EMPTY)
    if not table[PATH]:
        raise UserError(f"{path} has no rows.")
    return table


def _check_columns(path, columns, wanted):
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise UserError(
            f"{path} lacks the column {missing[0]!r}; it has {', '.join(columns) or 'none'}."
        )
