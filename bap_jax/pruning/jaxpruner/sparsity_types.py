"""jaxpruner's `sparsity_types`: those of `bap_jax.pruning.sparsity_types`, with its defaults."""

from typing import Any

from bap_jax.pruning import sparsity_types as _engine
from bap_jax.pruning.sparsity_types import SparsityType, Unstructured

__all__ = ["Block", "Channel", "NByM", "SparsityType", "Unstructured", "is_sparsity_type"]


class NByM(_engine.NByM):
    """Of every `m` consecutive weights along `axis`, by default the last, the `n` largest stay."""

    __slots__ = ()

    def __new__(cls, n: int, m: int, axis: int = -1):
        return super().__new__(cls, n, m, axis)


class Channel(_engine.Channel):
    """All weights at one index of `axis`, by default the last, are kept or removed together."""

    __slots__ = ()

    def __new__(cls, axis: int = -1):
        return super().__new__(cls, axis)


class Block(_engine.Block):
    """Blocks of the first two axes, which span all others, are kept or removed whole."""

    __slots__ = ()

    def __new__(cls, block_shape: tuple[int, int], use_avg_pooling: bool = True):
        return super().__new__(cls, block_shape, use_avg_pooling, True)

    def __getnewargs__(self) -> Any:  # for copies and pickles
        return self.block_shape, self.use_avg_pooling


def is_sparsity_type(instance_to_check: object) -> bool:
    """Whether a value is one of the types above."""
    return _engine.is_sparsity_type(instance_to_check)
