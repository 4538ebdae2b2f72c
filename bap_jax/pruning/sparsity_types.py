"""Shapes in which weights are removed.

They lie along the inputs and outputs of a kernel: those of the product that uses it where these are
known (see `pruning.kernel_axes`), otherwise the last axis holds outputs and the one before it
inputs.
"""

from typing import NamedTuple

from bap_jax.errors import UserError


class Unstructured(NamedTuple):
    """Any weight on its own."""


class NByM(NamedTuple):
    """Of every `m` consecutive weights along `axis`, the `n` largest stay.

    For every sparsity above 0 the result has sparsity 1 − n / m. Of equal scores the higher index
    stays.

    Attributes:
      n, m: 2 and 4 is the format that hardware supports.
      axis: None: the inputs, over which products are summed, as hardware expects. Several input
        axes count as one, in the order in which they lie in memory.
    """

    n: int
    m: int
    axis: int | None = None


class Block(NamedTuple):
    """Blocks of neighbouring weights are kept or removed whole; at the edges they may be smaller.

    Attributes:
      block_shape: number of inputs and of outputs of a block.
      use_avg_pooling: whether a block's score is its mean score; otherwise its largest.
      leading: whether blocks lie in the first two axes and span all others, as in jaxpruner.
    """

    block_shape: tuple[int, int]
    use_avg_pooling: bool = True
    leading: bool = False


class Channel(NamedTuple):
    """All weights at one index of `axis` are kept or removed together, by their summed scores.

    Attributes:
      axis: None: the outputs; several output axes count as one.
    """

    axis: int | None = None


SparsityType = Unstructured | NByM | Block | Channel
KNOWN = "unstructured, nm_N,M (nm_2,4), block_H,W (block_4,4), channel or channel_AXIS"


def is_sparsity_type(value: object) -> bool:
    """Whether `value` is one of the types above."""
    return isinstance(value, SparsityType)


def parse(text: str) -> SparsityType:
    """A type from its name, such as `nm_2,4`.

    Raises:
      UserError: the name is not one of `KNOWN`.

    Example:
      >>> parse("nm_2,4")
      NByM(n=2, m=4, axis=None)
    """
    name, _, numbers = text.partition("_")
    try:
        values = [int(number) for number in numbers.split(",")] if numbers else []
        if name == "unstructured" and not values:
            return Unstructured()
        if name == "nm" and len(values) == 2:
            return NByM(*values)
        if name == "block" and len(values) == 2:
            return Block((values[0], values[1]))
        if name == "channel" and len(values) <= 1:
            return Channel(*values)
    except ValueError:
        pass
    raise UserError(f"unknown sparsity type {text!r}; known: {KNOWN}.")


def check_type(value: object) -> None:
    """Raises an error for a type that no tensor can have.

    Raises:
      UserError: `value` is not a sparsity type, or its numbers make no sense.
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
