"""Shapes in which weights are removed.

In a kernel the last axis holds output channels and the one before it input channels.
"""

from typing import NamedTuple

from bap_jax.types import UserError


class Unstructured(NamedTuple):
    """Any weight on its own."""


class NByM(NamedTuple):
    """Of every `m` consecutive weights along `axis`, the `n` largest stay.

    Whatever sparsity above 0 is asked for, this gives 1 − n / m. Of equal scores the higher index
    stays.

    Attributes:
      n, m: 2 and 4 for the format that hardware knows.
      axis: by default the input axis, along which products are summed and hardware expects it.
    """

    n: int
    m: int
    axis: int = -2


class Block(NamedTuple):
    """Blocks of neighbouring weights live and die together; those at the edges may be smaller.

    Attributes:
      block_shape: height and width of a block, in the last two axes.
      use_avg_pooling: whether a block counts by its mean score, else by its largest.
      leading: blocks lie in the first two axes and span all the others, as in jaxpruner.
    """

    block_shape: tuple[int, int]
    use_avg_pooling: bool = True
    leading: bool = False


class Channel(NamedTuple):
    """All weights of one index of `axis` live and die together, ranked by their summed scores.

    Attributes:
      axis: by default the output channels.
    """

    axis: int = -1


SparsityType = Unstructured | NByM | Block | Channel
KNOWN = "unstructured, nm_N,M (nm_2,4), block_H,W (block_4,4), channel or channel_AXIS"


def is_sparsity_type(value: object) -> bool:
    """Whether `value` is one of the types above."""
    return isinstance(value, SparsityType)


def parse(text: str) -> SparsityType:
    """A type from its name, such as `nm_2,4`.

    Raises:
      UserError: the name is none of `KNOWN`.
    """
    name, _, numbers = text.partition("_")
    try:
        values = [int(number) for number in numbers.split(",")] if numbers else []
        if name == "unstructured" and not values:
            return Unstructured()
        if name == "nm" and len(values) == 2:
            return NByM(*values)
        if name == "block" and len(values) == 2:
            return Block(tuple(values))
        if name == "channel" and len(values) <= 1:
            return Channel(*values)
    except ValueError:
        pass
    raise UserError(f"unknown sparsity type {text!r}; known: {KNOWN}.")


def check_type(value: object) -> None:
    """Finds a type that no tensor can have.

    Raises:
      UserError: `value` is no sparsity type, or its numbers are not usable.
    """
    if not is_sparsity_type(value):
        raise UserError(
            f"sparsity_type must be one of Unstructured(), NByM(n, m), Block((height, width)), "
            f"Channel(axis); got {value!r}."
        )
    if isinstance(value, NByM) and not 0 < value.n <= value.m:
        raise UserError(f"NByM keeps n of m weights and needs 0 < n ≤ m; got {value}.")
    if isinstance(value, Block) and min(value.block_shape) < 1:
        raise UserError(f"a block needs at least one row and one column; got {value}.")
