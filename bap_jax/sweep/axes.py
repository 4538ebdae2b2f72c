"""Axes of a sweep: a key of the config and the values it takes.

    seed=0:8                            0, 1, … 7; a third number is the step, as in 0:8:2
    seed=0:4,10                         ranges and single values can be mixed
    tolerance=0.0,0.01,0.02             numbers; 1 and inf are numbers too
    method=nft,ceag                     names
    data.table='a.csv','b,c.csv'        a name with a comma needs quotes
    optimizer.nesterov=true,false
    model.hidden=(32,),(64,64)          lists need brackets

In a shell, quotes and brackets need quotes around the whole: --sweep="model.hidden=(32,),(64,64)".

A config file may define axes as well: a function `get_sweep()` that returns a dict from keys to
lists of values, or to the text that would follow the `=`. An axis on the command line replaces the
file's axis of the same key.
"""

import ast
import math
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.config import check_flags, default_config
from bap_jax.config_identity import WITHOUT_EFFECT
from bap_jax.errors import UserError

_RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")
_EXPECTED = {
    bool: "true or false",
    int: "integers, as in 0,1,2 or 0:8",
    float: "numbers, as in 0.0,0.01 or 0:8",
    str: "names, as in a,b",
}


class Axis(NamedTuple):
    """A key of the config and the values it takes.

    Attributes:
      key: dotted, such as `dual.learning_rate`.
      values: at least one, all different, with the type of the key's default.
    """

    key: str
    values: tuple[Any, ...]


def parse_axis(text: str) -> Axis:
    """The axis of `--sweep=TEXT`; the module describes the syntax.

    Raises:
      UserError: the key is unknown, or a value does not have the key's type.

    Example:
      >>> parse_axis("seed=0:3,10")
      Axis(key='seed', values=(0, 1, 2, 10))
    """
    key, equals, values = text.partition("=")
    if not equals:
        raise UserError(
            f"--sweep={text} has no values; write --sweep=KEY=VALUE,VALUE,… as in --sweep=seed=0:8."
        )
    return make_axis(key.strip(), values)


def make_axis(key: str, values: str | Sequence[Any]) -> Axis:
    """An axis from a key and its values.

    Args:
      key: dotted key of the config.
      values: the values, or text that would follow the `=` on the command line.

    Raises:
      UserError: the key is unknown or changes no result, or a value does not have its type.
    """
    default = _default_value(key)
    if key in WITHOUT_EFFECT:
        raise UserError(f"axis {key} would change no result; write --config.{key}=VALUE instead.")
    if isinstance(values, str):
        values = _parse_values(key, values, default)
    elif not isinstance(values, list | tuple | range):
        raise UserError(
            f"axis {key} must be a list of values or a text such as '0:8'; got {values!r}."
        )
    converted = tuple(_convert(key, value, default) for value in values)
    if not converted:
        raise UserError(f"axis {key} has no values; write {_expected(default)}.")
    repeated = sorted({str(value) for value in converted if converted.count(value) > 1})
    if repeated:
        raise UserError(
            f"axis {key} has the value {', '.join(repeated)} twice; write each value once."
        )
    return Axis(key, converted)


def file_axes(path: str | Path) -> tuple[Axis, ...]:
    """The axes that `get_sweep()` of a config file returns; none if it has no such function.

    Args:
      path: as in `--config=FILE:SETTING`.

    Raises:
      UserError: `get_sweep()` does not return a dict, or an axis in it is invalid.
    """
    file, _, _ = str(path).partition(":")
    get_sweep = runpy.run_path(file).get("get_sweep")
    if get_sweep is None:
        return ()
    axes = get_sweep()
    if not isinstance(axes, Mapping):
        raise UserError(
            f"get_sweep() of {path} must return a dict from keys to lists of values, as in "
            f"{{'seed': '0:8'}}; got {axes!r}."
        )
    return tuple(make_axis(key, values) for key, values in axes.items())


def merge_axes(from_file: Sequence[Axis], from_flags: Sequence[Axis]) -> tuple[Axis, ...]:
    """The file's axes, replaced by those of the command line with the same key, then the others.

    Raises:
      UserError: the command line has a key twice, or there is no axis at all.
    """
    keys = [axis.key for axis in from_flags]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(
                f"axis {key} is given twice; write all its values after one --sweep={key}=."
            )
    merged = {axis.key: axis for axis in (*from_file, *from_flags)}
    if not merged:
        raise UserError(
            "a sweep needs an axis; write --sweep=KEY=VALUE,VALUE,… as in --sweep=seed=0:8, or "
            "define a function get_sweep() in the config file."
        )
    return tuple(merged.values())


def _default_value(key):
    if not isinstance(key, str):
        raise UserError(f"the key of an axis must be a string such as 'dual.start'; got {key!r}.")
    check_flags([f"--config.{key}"])
    value: Any = default_config()
    for name in key.split("."):
        value = value[name]
    if hasattr(value, "items"):
        keys = ", ".join(f"{key}.{name}" for name in value)
        raise UserError(f"axis {key} is a section of the config; its keys: {keys}.")
    return value


def _parse_values(key, text, default):
    values = []
    for piece in _split_at_commas(key, text):
        if not piece:
            raise UserError(
                f"axis {key} has an empty value in {text!r}; write {_expected(default)}."
            )
        ends = _RANGE.fullmatch(piece) if type(default) in (int, float) else None
        values += _range(key, piece, ends) if ends else [_literal(piece, default)]
    return values


def _split_at_commas(key, text):
    """The parts of `text` between its commas, except commas in quotes or brackets."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            pieces.append("")
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([") - (letter in ")]")
        pieces[-1] += letter
    if depth or quote:
        raise UserError(f"axis {key} has an unmatched bracket or quote in {text!r}.")
    return [piece.strip() for piece in pieces]


def _range(key, piece, ends):
    start, stop, step = (int(end) if end else 1 for end in ends.groups())
    values = range(start, stop, step) if step else ()
    if not values:
        raise UserError(
            f"axis {key} has an empty range {piece}; START:STOP excludes STOP, as in 0:8."
        )
    return values


def _literal(piece, default):
    """The Python value of one piece; a string if it is not a literal."""
    if isinstance(default, str):
        quoted = len(piece) > 1 and piece[0] == piece[-1] and piece[0] in "'\""
        return piece[1:-1] if quoted else piece
    if piece.lower() in ("true", "false"):
        return piece.lower() == "true"
    try:
        value = ast.literal_eval(piece)
    except (ValueError, SyntaxError, TypeError):
        try:
            return float(piece)  # inf
        except ValueError:
            return piece
    single = piece[0] in "([" and not isinstance(value, list | tuple)  # (8) is short for (8,)
    return (value,) if single else value


def _convert(key, value, default, sequence=None):
    """`value` with the type of `default`, which is an item of the default `sequence` if given."""
    if isinstance(default, list | tuple):
        if isinstance(value, list | tuple):
            return tuple(_convert(key, item, default[0], sequence or default) for item in value)
    elif isinstance(default, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
            return float(value)
    elif type(value) is type(default):
        return value
    raise UserError(f"axis {key} got {value!r}; write {_expected(sequence or default)}.")


def _expected(default):
    if isinstance(default, list | tuple):
        items = _EXPECTED[type(default[0])]
        return f"lists in brackets, each of {items}: ({default[0]},),{default}"
    return _EXPECTED[type(default)]
