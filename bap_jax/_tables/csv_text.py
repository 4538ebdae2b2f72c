"""CSV files, read strictly: every line belongs to one row, and every row has all cells.

A reader of CSV files that guesses can lose rows without a word: after a quote that is never closed,
all lines up to the next quote are one cell. So quotes are checked first, by RFC 4180: a quote opens
a cell only right after a separator or a line's start, and closes it only right before a separator
or a line's end; inside, a quote is written twice. All of this is vectorised; pyarrow then splits
the cells, and the rows it found are counted.
"""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from bap_jax._tables import arrow
from bap_jax.errors import UserError

_QUOTE, _LINE_FEED = ord('"'), ord("\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class CsvText(NamedTuple):
    """A checked CSV file.

    Attributes:
      path: what errors call the file.
      names: the columns.
      body: the bytes after the first row.
      ends: `(row,)` position in `body` of the end of each row.
      first_line: the line of the file with which `body` starts, from 1.
      separator: between cells.
    """

    path: str
    names: tuple[str, ...]
    body: bytes
    ends: np.ndarray
    first_line: int
    separator: str

    def line(self, row: int) -> int:
        """The line of the file with which a row starts, both as people count: lines from 1."""
        start = 0 if row == 0 else int(self.ends[row - 1]) + 1
        return self.first_line + self.body.count(b"\n", 0, start)


def parse(data: bytes, path: str, separator: str = ",") -> CsvText:
    """Checks a CSV file's quotes and lines, and reads its first row.

    Args:
      data: the whole file.
      path: what errors call the file.
      separator: between cells.

    Raises:
      UserError: a quote is misplaced or not closed, a line is empty, the file has no rows, is not
        UTF-8, or names a column twice.
    """
    data = _as_lines(data, path)
    bytes_of = np.frombuffer(data, np.uint8)
    inside = _check_quotes(data, bytes_of, path, separator)
    breaks = np.flatnonzero(bytes_of == _LINE_FEED)
    if inside is not None:
        breaks = breaks[~inside(breaks)]
    ends = np.append(breaks, len(data))
    _check_empty_lines(data, ends, path)
    header = _decoded(data[: ends[0]], path, 1)
    names = _names(header, path, separator)
    if len(ends) == 1:
        raise UserError(f"{path} has no rows, only the names of its columns.")
    start = int(ends[0]) + 1
    first_line = 2 + header.count("\n")
    return CsvText(path, names, data[start:], ends[1:] - start, first_line, separator)


def read_columns(text: CsvText, names: Sequence[str]) -> dict[str, pa.Array]:
    """Some columns as texts; an empty cell is an empty text.

    Raises:
      UserError: a row has more or fewer cells than there are columns, or is not UTF-8; one of these
        columns holds a line break, which a forgotten quote would also lead to.
    """
    numbers = {name: str(text.names.index(name)) for name in names}
    try:
        table = _split(text, list(numbers.values()), use_threads=True)
    except pa.ArrowInvalid as error:
        raise _reason(text, list(numbers.values()), error) from error
    assert table.num_rows == len(text.ends), f"{text.path}: {table.num_rows} rows of {text.ends}"
    columns = {name: table[number].combine_chunks() for name, number in numbers.items()}
    if _has_breaks_within_cells(text):
        _check_breaks(text, columns)
    return columns


def _has_breaks_within_cells(text):
    return text.body.count(b"\n") >= len(text.ends)


def _check_breaks(text, columns):
    for name, column in columns.items():
        broken = arrow.rows(arrow.compute.match_substring(column, "\n"))
        if len(broken):
            raise UserError(
                f"{text.path}, line {text.line(broken[0])}: the column {name!r} holds a line "
                "break; if a quote is missing there, add it, otherwise remove the line break."
            )


def _as_lines(data, path):
    """The file without a byte order mark, with lines that end in a line feed alone."""
    if data.startswith(_UTF16):
        raise UserError(f"{path} is UTF-16; save it as CSV in UTF-8.")
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if _BYTE_ORDER_MARK in data:
        line = _line(data, data.index(_BYTE_ORDER_MARK))
        raise UserError(f"{path}, line {line}: remove the byte order mark, left from another file.")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    data = data.rstrip(b"\n")
    if not data.strip():
        raise UserError(f"{path} is empty; expected a first row with names of columns.")
    return data


def _check_quotes(data, bytes_of, path, separator):
    """Raises at the first misplaced quote; otherwise a function: is a position within quotes?"""
    if b'"' not in data:
        return None
    quotes = np.flatnonzero(bytes_of == _QUOTE)
    opening, closing = quotes[::2], quotes[1::2]
    edges = (ord(separator), _LINE_FEED)
    before, after = bytes_of[opening - 1], bytes_of[np.minimum(closing + 1, len(data) - 1)]
    # One that closes and the next that opens right after it are a quote written twice.
    doubled = np.zeros(len(opening) + 1, bool)
    doubled[1:-1] = closing[: len(opening) - 1] + 1 == opening[1:]
    bad_opening = ~(np.isin(before, edges) | (opening == 0) | doubled[:-1])
    bad_closing = ~(np.isin(after, edges) | (closing == len(data) - 1))
    bad_closing &= ~doubled[1 : len(closing) + 1]
    stray = opening[bad_opening][:1]
    unclosed = np.flatnonzero(np.append(bad_closing, [True] * (len(opening) - len(closing))))[:1]
    if len(stray) and not (len(unclosed) and opening[unclosed[0]] < stray[0]):
        raise UserError(
            f"{path}, line {_line(data, stray[0])}: there is a quote in the middle of a cell; put "
            'the whole cell in quotes, and write a quote inside it twice: "a ""b"" c".'
        )
    if len(unclosed):
        start = opening[: unclosed[0] + 1][~doubled[: unclosed[0] + 1]][-1]
        raise UserError(
            f"{path}, line {_line(data, start)}: a quote is opened and not closed before the cell "
            'ends; close it, or write a quote that belongs to the text twice: "a ""b"" c".'
        )
    return lambda positions: np.searchsorted(quotes, positions) % 2 == 1


def _line(data, position):
    return 1 + data.count(b"\n", 0, int(position))


def _check_empty_lines(data, ends, path):
    empty = np.flatnonzero(np.diff(ends, prepend=-1) == 1)
    if len(empty):
        raise UserError(f"{path}, line {_line(data, ends[empty[0]])} is empty; remove it.")


def _decoded(part, path, first_line):
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        line = first_line + part.count(b"\n", 0, error.start)
        raise UserError(f"{path}, line {line} is not UTF-8; save the file in UTF-8.") from error


def _names(header, path, separator):
    if "\0" in header:
        raise UserError(f"{path} holds bytes that are no text; save it as CSV in UTF-8.")
    cells = next(csv.reader(io.StringIO(header, newline=""), delimiter=separator))
    names = tuple(name.strip() for name in cells)
    other = [mark for mark in ";\t," if mark != separator and mark in header]
    if len(names) == 1 and other:
        raise UserError(
            f"{path}: cells must be separated by commas (in a file .tsv by tabs); line 1 is "
            f"{header!r}."
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(
            f"{path} has the column {twice[0]!r} twice; its columns: {', '.join(names)}."
        )
    return names


def _split(text, numbers, use_threads, handler=None):
    longest = int(np.diff(text.ends, prepend=-1).max())
    return pyarrow.csv.read_csv(
        pa.BufferReader(text.body),
        pyarrow.csv.ReadOptions(
            column_names=[str(number) for number in range(len(text.names))],
            block_size=max(1 << 20, 2 * longest),
            use_threads=use_threads,
        ),
        pyarrow.csv.ParseOptions(
            delimiter=text.separator,
            quote_char='"' if b'"' in text.body else False,
            newlines_in_values=_has_breaks_within_cells(text),
            ignore_empty_lines=False,
            invalid_row_handler=handler,
        ),
        pyarrow.csv.ConvertOptions(
            column_types={number: pa.string() for number in numbers},
            include_columns=numbers,
            strings_can_be_null=False,
        ),
    )


def _reason(text, numbers, error):
    """What is wrong, with the line: rows are counted in a second, slower pass."""
    _decoded(text.body, text.path, text.first_line)  # the handler takes texts
    invalid = []

    def handle(row):
        invalid.append(row)
        return "skip"

    _split(text, numbers, use_threads=False, handler=handle)
    if not invalid:
        return UserError(f"{text.path} cannot be read: {error}")
    row = invalid[0]
    cells = "1 cell" if row.actual_columns == 1 else f"{row.actual_columns} cells"
    return UserError(
        f"{text.path}, line {text.line(row.number - 1)} has {cells}; line 1 names "
        f"{row.expected_columns} columns."
    )
