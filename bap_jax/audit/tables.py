"""Tables of predictions: CSV, Parquet, and `.npz` of arrays, as columns by name.

All cells of a CSV file are texts, so that an id such as 007 keeps its zeros. Columns are read when
they are asked for: a long text beside the predictions costs little.
"""

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from bap_jax._tables import csv_text
from bap_jax._tables.arrow import compute, to_numpy
from bap_jax.audit.npz import load_npz
from bap_jax.audit.values import Column
from bap_jax.errors import UserError

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_PARQUET = (".parquet", ".pq")
# What numpy and its readers of archives and headers raise for a damaged file, but ValueError.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, tokenize.TokenError
)  # fmt: skip
SUFFIXES = (*_SEPARATORS, *_PARQUET, ".npz")


class Table(NamedTuple):
    """A table that is read by columns.

    Attributes:
      path: what errors call the file.
      names: its columns.
      read: reads some columns; each has the same number of samples.
      place: what errors call a row, which is counted from 0: `line 2`.
    """

    path: str
    names: tuple[str, ...]
    read: Callable[[Sequence[str]], dict[str, Column]]
    place: Callable[[int], str]


def open_table(path: Path) -> Table:
    """Opens a table; its name says what it is.

    Args:
      path: a file `.csv`, `.tsv`, `.parquet` or `.npz`; CSV may be compressed as `.csv.gz`.

    Raises:
      UserError: the file does not exist, has a format that is not known, or cannot be read.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}.")
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in _SEPARATORS:
        return _open_csv(path, _SEPARATORS[suffix])
    if suffix in _PARQUET:
        return _open_parquet(path)
    if suffix == ".npz":
        return _open_npz(path)
    raise UserError(
        f"{path} is of no kind that can be read; expected a name that ends in "
        f"{', '.join(SUFFIXES)}, or samples_*.jsonl of lm-evaluation-harness."
    )


def _open_csv(path, separator):
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            data = stream.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    text = csv_text.parse(data, str(path), separator)
    return Table(
        str(path),
        text.names,
        lambda names: csv_text.read_columns(text, names),
        lambda row: f"line {text.line(row)}",
    )


def _open_parquet(path):
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise UserError(f"{path} is no Parquet file: {error}") from error
    names = tuple(file.schema_arrow.names)
    if not file.metadata.num_rows:
        raise UserError(f"{path} has no rows.")

    def read(wanted):
        try:
            table = file.read(list(wanted))
            table.validate(full=True)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise UserError(f"{path} is damaged: {error}") from error
        return {name: _flat(table[name].combine_chunks(), name, path) for name in wanted}

    return Table(str(path), names, read, lambda row: f"row {row + 1}")


def _flat(column, name, path):
    """A column of Parquet as values, or, if it holds lists of numbers, as scores."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        if column.null_count or len(compute.unique(column.value_lengths())) != 1:
            raise UserError(f"{path}: the lists of the column {name!r} have different lengths.")
        return _scores(column, name, path)
    if pa.types.is_fixed_size_list(column.type):
        return _scores(column, name, path)
    if pa.types.is_nested(column.type):
        raise UserError(f"{path}: the column {name!r} is of type {column.type}; expected values.")
    return column


def _scores(column, name, path):
    flat = column.flatten()
    if flat.null_count or not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type)):
        raise UserError(f"{path}: the lists of the column {name!r} must hold numbers, all of them.")
    return to_numpy(flat).reshape(len(column), -1)


def _open_npz(path):
    file = load_npz(path)
    names = tuple(file.files)

    def read(wanted):
        columns = {name: _array(file, name, path) for name in wanted}
        sizes = {name: len(column) for name, column in columns.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise UserError(f"{path}: arrays must have the same number of samples; got {shown}.")
        if 0 in sizes.values():
            raise UserError(f"{path} has no samples.")
        return columns

    return Table(str(path), names, read, lambda row: f"sample {row}")


def _array(file, name, path):
    try:
        array = file[name]
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged: {error}") from error
    except ValueError as error:
        raise UserError(
            f"{path}: the array {name!r} holds Python objects; save it as an array of texts or "
            "numbers, for instance by .astype(str)."
        ) from error
    if array.ndim not in (1, 2):
        raise UserError(
            f"{path}: the array {name!r} has shape {array.shape}; expected (sample,), or scores "
            "(sample, class)."
        )
    return array
