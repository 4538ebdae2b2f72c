"""Axes of a sweep: which key of the config takes which values.

    seed=0:8                            0, 1, … 7; a third number is the step, as in 0:8:2
    seed=0:4,10                         ranges and single values mix
    tolerance=0.0,0.01,0.02             numbers; 1 and inf are numbers too
    method=nft,ceag                     names
    data.table='a.csv','b,c.csv'        quotes hold a name with a comma together
    dual.restart=true,false
    model.hidden=(32,),(64,64)          a list stands in brackets

In a shell, quotes and brackets want quotes around the whole: --sweep="model.hidden=(32,),(64,64)".

A config file may bring axes of its own: a function `get_sweep()` that returns a dict from keys to
lists of values, or to the text that would follow the `=`. An axis of the command line takes the
place of the file's axis of the same key.
"""

import ast
import math
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bap_jax.config import check_flags, default_config
from bap_jax.types import UserError

_RANGE = re.compile(r"(-?\d+):(-?\d+)(?::(-?\d+))?")
_WANTED = {
    bool: "true or false",
    int: "integers, as in 0,1,2 or 0:8",
    float: "numbers, as in 0.0,0.01 or 0:8",
    str: "names, as in a,b",
}


class Axis(NamedTuple):
    """One key and its values.

    Attributes:
      key: of the config, dotted.
      values: at least one, all different, of the type of the key's default.
    """

    key: str
    values: tuple[Any, ...]


def parse_axis(text: str) -> Axis:
    """The axis that `--sweep=TEXT` means, see the module.

    Raises:
      UserError: the key is unknown, or the values are not what the key holds.
    """
    key, equals, values = text.partition("=")
    if not equals:
        raise UserError(
            f"--sweep={text} has no values; write --sweep=KEY=VALUE,VALUE,… as in --sweep=seed=0:8."
        )
    return make_axis(key.strip(), values)


def make_axis(key: str, values: str | Sequence[Any]) -> Axis:
    """An axis from a key and its values, or the text of them.

    Raises:
      UserError: the key is unknown, or the values are not what the key holds.
    """
    default = _default(key)
    if isinstance(values, str):
        values = _parse_values(key, values, default)
    elif not isinstance(values, list | tuple | range):
        raise UserError(
            f"axis {key} must be a list of values or a text such as '0:8'; got {values!r}."
        )
    fitted = tuple(_fit(key, value, default) for value in values)
    if not fitted:
        raise UserError(f"axis {key} has no values; write {_wanted(default)}.")
    twice = sorted({str(value) for value in fitted if fitted.count(value) > 1})
    if twice:
        raise UserError(
            f"axis {key} has the value {', '.join(twice)} twice; write each value once."
        )
    return Axis(key, fitted)


def file_axes(path: str | Path) -> tuple[Axis, ...]:
    """The axes of the function `get_sweep` in a config file; none where it has no such function.

    Raises:
      UserError: it returns no dict, or an axis that is none.
    """
    file, _, _ = str(path).partition(":")  # FILE:ARGUMENT
    get_sweep = runpy.run_path(file).get("get_sweep")
    if get_sweep is None:
        return ()
    found = get_sweep()
    if not isinstance(found, Mapping):
        raise UserError(
            f"get_sweep() of {path} must return a dict from keys to lists of values, as in "
            f"{{'seed': '0:8'}}; got {found!r}."
        )
    return tuple(make_axis(key, values) for key, values in found.items())


def merge_axes(of_file: Sequence[Axis], of_flags: Sequence[Axis]) -> tuple[Axis, ...]:
    """The file's axes, those of the command line in their places or after them.

    Raises:
      UserError: the command line has a key twice, or there is no axis at all.
    """
    keys = [axis.key for axis in of_flags]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(
                f"axis {key} is given twice; write all its values behind one --sweep={key}=."
            )
    merged = {axis.key: axis for axis in (*of_file, *of_flags)}
    if not merged:
        raise UserError(
            "a sweep needs an axis; write --sweep=KEY=VALUE,VALUE,… as in --sweep=seed=0:8, or a "
            "function get_sweep() in the config file."
        )
    return tuple(merged.values())


def _default(key):
    if not isinstance(key, str):
        raise UserError(f"the key of an axis must be a string such as 'dual.start'; got {key!r}.")
    check_flags([f"--config.{key}"])
    level = default_config()
    for name in key.split("."):
        level = level[name]
    if hasattr(level, "items"):
        below = ", ".join(f"{key}.{name}" for name in level)
        raise UserError(f"axis {key} is a section of the config; its keys: {below}.")
    return level


def _parse_values(key, text, default):
    values = []
    for piece in _pieces(key, text):
        if not piece:
            raise UserError(f"axis {key} has an empty value in {text!r}; write {_wanted(default)}.")
        ends = _RANGE.fullmatch(piece) if type(default) in (int, float) else None
        values += _range(key, piece, ends) if ends else [_literal(piece, default)]
    return values


def _pieces(key, text):
    """`text` cut at its commas, but for those in quotes or brackets."""
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
        raise UserError(f"axis {key} has a bracket or a quote without its partner in {text!r}.")
    return [piece.strip() for piece in pieces]


def _range(key, piece, ends):
    start, stop, step = (int(end) if end else 1 for end in ends.groups())
    values = range(start, stop, step) if step else ()
    if not values:
        raise UserError(
            f"axis {key} has an empty range {piece}; START:STOP leaves STOP out, as in 0:8."
        )
    return values


def _literal(piece, default):
    """The Python value of one piece; what is no literal stays a string."""
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
    alone = piece[0] in "([" and not isinstance(value, list | tuple)
    return (value,) if alone else value


def _fit(key, value, default, whole=None):
    """`value` with the type of `default`, which is an item of `whole` where that is given."""
    if isinstance(default, list | tuple):
        if isinstance(value, list | tuple):
            return tuple(_fit(key, item, default[0], whole or default) for item in value)
    elif isinstance(default, float):
        if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value):
            return float(value)
    elif type(value) is type(default):
        return value
    raise UserError(f"axis {key} got {value!r}; write {_wanted(whole or default)}.")


def _wanted(default):
    if isinstance(default, list | tuple):
        return f"lists in brackets, each of {_WANTED[type(default[0])]}: ({default[0]},),{default}"
    return _WANTED[type(default)]
