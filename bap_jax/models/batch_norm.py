"""Batch normalisation that leaves channels without weights alone.

A channel c of an image is normalised over batch and positions, n values in all:

    y_c = γ_c (x_c − μ_c) / √(v_c + ϵ) + β_c        μ_c = Σ x_c / n ,  v_c = Σ (x_c − μ_c)² / n
    running mean  ← m · running mean + (1 − m) · μ_c
    running var   ← m · running var  + (1 − m) · v_c n / (n − 1)

In evaluation the running mean and variance stand for μ and v. As in PyTorch, the running variance
takes the unbiased estimate, which Flax's own module does not.

A channel whose incoming weights are all pruned holds nothing but zeros. To normalise it would turn
them into β_c, a bias that no mask counts and that later layers would learn to lean on, and its
running variance would decay towards 0. So it passes through unchanged: an inactive channel is one
with μ = 0, √(v + ϵ) = 1, γ = 1, β = 0, whose parameters get no gradient. Where no channel at all is
active, the output is 0.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from bap_jax.types import Array, UserError


class BatchNorm(nn.Module):
    """Masked batch normalisation over all axes but the last.

    Its parameters are `scale` (γ) and `bias` (β), its statistics `mean` and `var` in the collection
    `batch_stats`, all `(channel,)` float32.

    Attributes:
      momentum: m, the share of the running statistics that one batch leaves.
      epsilon: ϵ.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: Array, active: Array | None = None, *, train: bool) -> Array:
        """Normalises.

        Args:
          inputs: `(batch, ..., channel)`.
          active: `(channel,)` bool, False for channels that pass through; by default all True.
          train: whether to use, and keep a share of, the batch's own statistics.

        Returns:
          Shape and dtype of `inputs`.

        Raises:
          UserError: in training, a channel has a single value: no variance can be had from it.
        """
        size = inputs.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, size)
        bias = self.param("bias", nn.initializers.zeros, size)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, size)
        running_var = self.variable("batch_stats", "var", jnp.ones, size)
        active = jnp.ones(size, bool) if active is None else active
        x = inputs.astype(jnp.float32)
        mean, var = running_mean.value, running_var.value
        if train:
            mean, var, unbiased = _moments(x)
            if not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_var, unbiased)):
                    moved = self.momentum * running.value + (1 - self.momentum) * batch
                    running.value = jnp.where(active, moved, running.value)
        factor = jnp.where(active, scale * jax.lax.rsqrt(var + self.epsilon), 1)
        factor = jnp.where(
            active.any(), factor, 0
        )  # the reference: a layer without weights gives 0
        x = (x - _wide(jnp.where(active, mean, 0), x)) * _wide(factor, x)
        return (x + _wide(jnp.where(active, bias, 0), x)).astype(inputs.dtype)


def active_channels(kernel: Array) -> Array:
    """`(channel,)` bool: output channels into which any weight leads that is not exactly 0.

    Networks see θ ⊙ m, whose pruned weights are exactly 0, so that the kernel itself tells.

    Args:
      kernel: `(..., channel)`.
    """
    return jnp.any(kernel != 0, axis=tuple(range(kernel.ndim - 1)))


def _moments(x):
    """Mean, variance and unbiased variance of each channel."""
    count = x[..., 0].size
    if count < 2:
        raise UserError(
            f"batch normalisation needs more than one value a channel to train; got inputs of "
            f"shape {x.shape}. Use a larger batch or larger images."
        )
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.square(x - _wide(mean, x)).mean(axes)
    return mean, var, var * (count / (count - 1))


def _wide(vector, like):
    """`(channel,)` as an array of as many axes as `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
