"""A small transformer encoder over tokens (Vaswani et al. 2017, arXiv 1706.03762).

    tokens ─► embedding + positions ─► n blocks ─► norm ─► mean over tokens ─► linear

    block:  x + attention(norm(x)), then x + down(relu(up(norm(x))))

The norms come before the layers (Xiong et al. 2020, arXiv 2002.04745), and positions are the sines
and cosines of Vaswani et al., section 3.5, so sequences of any length fit. A row of a table is a
sequence, too, with one token for each column.

There are two groups of channels in each block: the heads of its attention, and the hidden units
between `up` and `down`.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bap_jax.errors import UserError
from bap_jax.types import Array, ChannelGroup

_EXPECTED = (
    "a transformer takes integer tokens (batch, length), or a mapping with 'tokens' and a 'mask' "
    "(batch, length) that is True for real tokens"
)


class Transformer(nnx.Module):
    """Classifies sequences of tokens.

    Parameters are named `embedding`, then `block_<0…>/` with `attention_norm`, `attention`
    (`query`, `key`, `value`, `out`), `hidden_norm`, `up` and `down`, and last `norm` and `head`.
    """

    def __init__(
        self,
        num_classes: int,
        vocabulary: int,
        width: int = 32,
        depth: int = 2,
        heads: int = 4,
        expansion: int = 4,
        *,
        rngs: nnx.Rngs,
    ):
        """Draws the parameters.

        Args:
          num_classes: length of the logits.
          vocabulary: number of different tokens.
          width: features of a token.
          depth: number of blocks.
          heads: of each attention; they share the features of a token.
          expansion: hidden units of a block for each feature of a token.
          rngs: its stream `params` draws the parameters.

        Raises:
          UserError: `width` is odd or not a multiple of `heads`, or a number is below 1.
        """
        numbers = {"vocabulary": vocabulary, "width": width, "depth": depth}
        for name, number in (numbers | {"heads": heads, "expansion": expansion}).items():
            if number < 1:
                raise UserError(f"{name} of a transformer must be at least 1; got {number}.")
        if width % heads or width % 2:
            raise UserError(
                f"width of a transformer must be even and a multiple of its {heads} heads; "
                f"got {width}. Write for instance model.width={2 * heads * max(1, width // 8)}."
            )
        self.depth = depth
        self.vocabulary = vocabulary
        self.embedding = nnx.Embed(vocabulary, width, rngs=rngs)
        for name in self.block_names():
            setattr(self, name, Block(width, heads, expansion * width, rngs=rngs))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, inputs: Array | Mapping[str, Array]) -> Array:
        """Logits `(batch, class)`.

        Args:
          inputs: tokens `(batch, length)`, integers in `[0, vocabulary)`; or a mapping with
            `tokens` and `mask` `(batch, length)`, which is True for real tokens. A sequence must
            have at least one.

        Raises:
          UserError: the inputs are not tokens.
        """
        tokens, mask = _split(inputs)
        x = self.embedding(jnp.asarray(tokens))
        x += _positions(*x.shape[1:])[None].astype(x.dtype)
        for name in self.block_names():
            x = getattr(self, name)(x, None if mask is None else jnp.asarray(mask))
        x = self.norm(x)
        if mask is None:
            return self.head(x.mean(1))
        weights = mask[..., None].astype(x.dtype)
        return self.head((x * weights).sum(1) / jnp.maximum(weights.sum(1), 1))

    def block_names(self) -> tuple[str, ...]:
        """Names of the blocks, in order."""
        return tuple(f"block_{i}" for i in range(self.depth))

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Of each block the heads, `block_0/heads`, and the hidden units, `block_0/hidden`."""
        groups = []
        for name in self.block_names():
            hidden = ChannelGroup(
                f"{name}/hidden",
                producers=(f"{name}/up/kernel",),
                vectors=(f"{name}/up/bias",),
                consumers=(f"{name}/down/kernel",),
            )
            groups += [_heads(f"{name}/attention", f"{name}/heads"), hidden]
        return tuple(groups)


class Block(nnx.Module):
    """Attention and two linear layers, each after a norm and with a shortcut around it."""

    def __init__(self, width: int, heads: int, hidden: int, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
          width: features of a token.
          heads: of the attention.
          hidden: units between the linear layers.
          rngs: its stream `params` draws the parameters.
        """
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.hidden_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        """`(batch, length, width)` to the same shape; `mask` is `(batch, length)` or None."""
        attended = None if mask is None else mask[:, None, None, :].astype(bool)
        x = x + self.attention(self.attention_norm(x), mask=attended)
        return x + self.down(nnx.relu(self.up(self.hidden_norm(x))))


def _heads(attention, name):
    """The heads of an `nnx.MultiHeadAttention`."""
    parts = [f"{attention}/{part}" for part in ("query", "key", "value")]
    kernels, biases = ([f"{part}/{leaf}" for part in parts] for leaf in ("kernel", "bias"))
    reader = f"{attention}/out/kernel"
    return ChannelGroup(
        name,
        producers=tuple(kernels),
        vectors=tuple(biases),
        consumers=(reader,),
        axes=dict.fromkeys(kernels, 1) | dict.fromkeys((*biases, reader), 0),
    )


def check_tokens(network: Any, inputs: Array | Mapping[str, Array]) -> None:
    """Finds tokens that a network has no embedding for.

    Args:
      network: a `Model`'s module; anything but a `Transformer` is not checked.
      inputs: of a split, as the network takes them.

    Raises:
      UserError: a token is outside `[0, vocabulary)`.
    """
    if not isinstance(network, Transformer):
        return
    tokens = np.asarray(_split(inputs)[0])
    outside = tokens[(tokens < 0) | (tokens >= network.vocabulary)]
    if outside.size:
        raise UserError(
            f"the data hold the token {outside.flat[0]}; with model.vocabulary="
            f"{network.vocabulary} tokens must lie in [0, {network.vocabulary - 1}]. Write "
            f"config.model.vocabulary={int(tokens.max()) + 1}."
        )


def _split(inputs):
    """Tokens, and the mask or None."""
    is_mapping = isinstance(inputs, Mapping)
    if is_mapping and "tokens" not in inputs:
        raise UserError(f"{_EXPECTED}; got a mapping with {', '.join(map(str, inputs))}.")
    tokens = inputs["tokens"] if is_mapping else inputs
    mask = inputs.get("mask") if is_mapping else None
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise UserError(f"{_EXPECTED}; got {tokens.dtype} of shape {tokens.shape}.")
    if mask is not None and mask.shape != tokens.shape:
        raise UserError(f"{_EXPECTED}; got a mask of shape {mask.shape}, tokens {tokens.shape}.")
    return cast(Array, tokens), mask


def _positions(length, width):
    """`(length, width)`: sines in the first half of the features, cosines in the second."""
    frequencies = 10000.0 ** (-np.arange(width // 2) / (width // 2))
    angles = np.arange(length)[:, None] * frequencies
    return jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), jnp.float32)
