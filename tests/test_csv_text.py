"""CSV files are read strictly: no row is lost, and what is wrong is named by its line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bap_jax._tables import csv_text
from bap_jax.errors import UserError


def columns(data, separator=","):
    text = csv_text.parse(data, "f.csv", separator)
    return {name: column.to_pylist() for name, column in read(text).items()}


def read(text):
    return csv_text.read_columns(text, text.names)


@pytest.mark.parametrize(
    "data",
    [
        b"a,b\n007,2\n3,4\n",
        b"a,b\n007,2\n3,4",
        b"a,b\r\n007,2\r\n3,4\r\n",
        b"a,b\r007,2\r3,4\r",
        b"\xef\xbb\xbfa,b\n007,2\n3,4\n\n\n",
        b'"a","b"\n"007",2\n3,"4"\n',
        b" a ,b\n007,2\n3,4\n",
    ],
    ids=["plain", "no end", "Windows", "old Mac", "byte order mark", "quotes", "spaces"],
)
def test_ways_to_write_the_same(data):
    assert columns(data) == {"a": ["007", "3"], "b": ["2", "4"]}


def test_tabs():
    assert columns(b"a\tb\n1,5\t2\n", "\t") == {"a": ["1,5"], "b": ["2"]}


def test_quotes_commas_and_nothing_in_cells():
    data = 'a,b\n"x,y",""\n"say ""hé""",\n'.encode()
    assert columns(data) == {"a": ["x,y", 'say "hé"'], "b": ["", ""]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2\n3\n5,6\n", "f.csv, line 3 has 1 cell; line 1 names 2 columns"),
        (b"a,b\n1,2\n3,4,5\n", "f.csv, line 3 has 3 cells; line 1 names 2 columns"),
        (b'a,b\n"1\n\n1",2\n3,4,5\n', "f.csv, line 5 has 3 cells"),
        (b"a,b\n1,2\n\n3,4\n", "f.csv, line 3 is empty"),
        (b'a,b\n1,"2\n3,4\n5,6\n', "f.csv, line 2: a quote is opened and not closed"),
        (b'a,b\n1,"2\n3,"4"\n5,6\n', "f.csv, line 2: a quote is opened and not closed"),
        (b'a,b\n1,"2\n3,""\n5,6\n', "f.csv, line 2: a quote is opened and not closed"),
        (b'a,b\n1,"2"x\n', "f.csv, line 2: a quote is opened and not closed"),
        (b'a,b\n1,2\n3,4"\n', "f.csv, line 3: there is a quote in the middle of a cell"),
        (b'a,b\n1,2\n5" x,4\n"6",7\n', "f.csv, line 3: there is a quote in the middle"),
        (b"a,b\n1,2\n\xff,4\n", "f.csv, line 3 is not UTF-8"),
        (b"\xff,b\n1,2\n", "f.csv, line 1 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "f.csv is UTF-16; save it as CSV in UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "f.csv holds bytes that are no text"),
        (b"a,b\n1,2\n\xef\xbb\xbf3,4\n", "f.csv, line 3: remove the byte order mark"),
        (b"a;b\n1;2\n", "cells must be separated by commas .* line 1 is 'a;b'"),
        (b"a,b,a\n1,2,3\n", "f.csv has the column 'a' twice; its columns: a, b, a"),
        (b"a,b\n", "f.csv has no rows"),
        (b"\n", "f.csv is empty"),
        (b"", "f.csv is empty"),
    ],
)
def test_mistakes_are_named_by_line(data, message):
    with pytest.raises(UserError, match=message):
        columns(data)


def test_a_line_break_may_be_in_a_column_that_is_not_used():
    text = csv_text.parse(b'a,text\n1,"two\n\nlines, and"\n2,x\n', "f.csv")
    assert csv_text.read_columns(text, ["a"])["a"].to_pylist() == ["1", "2"]
    assert [text.line(row) for row in (0, 1)] == [2, 5]
    with pytest.raises(
        UserError, match=r"line 2: the column 'text' holds a line break; if a quote"
    ):
        read(text)


def test_two_forgotten_quotes_do_not_swallow_a_row():
    """By RFC 4180 this is one row whose second cell has two lines."""
    with pytest.raises(UserError, match="line 2: the column 'b' holds a line break"):
        columns(b'a,b,c\n1,"cat,x\n2,dog",y\n')


def test_a_row_longer_than_a_block_of_the_reader():
    data = b"a,b\n" + b"1,2\n" * 3 + b"x" * 5_000_000 + b",2\n" + b"1,2\n"
    assert [len(cell) for cell in columns(data)["a"]] == [1, 1, 1, 5_000_000, 1]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=4)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.booleans())
def test_what_the_standard_library_writes_is_read(rows, quoted):
    file = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(file, quoting=quoting, lineterminator="\n").writerows([("a", "b"), *rows])
    found = columns(file.getvalue().encode())
    assert list(zip(found["a"], found["b"], strict=True)) == rows


@given(st.binary(max_size=30))
def test_any_bytes_are_rows_or_an_error(data):
    """Without quotes, every line after the first is a row; with them, no row is lost either."""
    try:
        text = csv_text.parse(b"a,b\n" + data, "f.csv")
        found = read(text)
    except UserError:
        return
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")
    assert len(found["a"]) == len(found["b"]) == len(text.ends) == len(lines)


@given(st.data())
def test_a_quote_more_or_less_is_an_error_or_changes_no_other_row(data):
    """Each row has its number as its last cell, so that a row which is swallowed is missed."""
    rows = data.draw(st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=5))
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("a", "b", "n"), *((*row, i) for i, row in enumerate(rows))])
    text = file.getvalue()
    quotes = [i for i, character in enumerate(text) if character == '"' and i > len('"a","b","n"')]
    drop = data.draw(st.sampled_from(quotes))
    try:
        found = columns((text[:drop] + text[drop + 1 :]).encode())
    except UserError:
        return
    assert found["n"] == [str(i) for i in range(len(rows))]
