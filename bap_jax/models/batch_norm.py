"""Batch normalisation that skips channels without weights.

A channel c of an image is normalised over batch and positions, n values in all:

    y_c = γ_c (x_c − μ_c) / √(v_c + ϵ) + β_c        μ_c = Σ x_c / n ,  v_c = Σ (x_c − μ_c)² / n
    running mean  ← m · running mean + (1 − m) · μ_c
    running var   ← m · running var  + (1 − m) · v_c n / (n − 1)

In evaluation the running mean and variance take the place of μ and v. As in PyTorch, the running
variance is updated with the unbiased estimate, which Flax's own module does not use.

A channel whose incoming weights are all pruned holds only zeros. Normalising it would turn them
into β_c, a bias that no mask counts and on which later layers would come to depend, and its running
variance would decay towards 0. Such an inactive channel therefore passes through unchanged: it has
μ = 0, √(v + ϵ) = 1, γ = 1, β = 0, and its parameters get no gradient. If no channel at all is
active, the output is 0.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.types import Array


class BatchNorm(nn.Module):
    """Masked batch normalisation over all axes but the last.

    Its parameters are `scale` (γ) and `bias` (β), its statistics `mean` and `var` in the collection
    `batch_stats`, all `(channel,)` float32.

    Attributes:
      momentum: m, the share of the running statistics that is kept in one step.
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
          train: whether to use the batch's statistics and to update the running ones.

        Returns:
          Shape and dtype of `inputs`.

        Raises:
          UserError: in training, a channel has a single value, which has no variance.
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
                    updated = self.momentum * running.value + (1 - self.momentum) * batch
                    running.value = jnp.where(active, updated, running.value)
        factor = jnp.where(active, scale * jax.lax.rsqrt(var + self.epsilon), 1)
        # As in the reference: a layer without weights gives 0.
        factor = jnp.where(active.any(), factor, 0)
        x = (x - _wide(jnp.where(active, mean, 0), x)) * _wide(factor, x)
        return (x + _wide(jnp.where(active, bias, 0), x)).astype(inputs.dtype)


def active_channels(kernel: Array) -> Array:
    """`(channel,)` bool: output channels with any incoming weight that is not exactly 0.

    Networks see θ ⊙ m, in which pruned weights are exactly 0, so the kernel itself shows them.

    Args:
      kernel: `(..., channel)`.

    Example:
      >>> active_channels(jnp.array([[0.0, 0.5], [0.0, 0.0]])).tolist()
      [False, True]
    """
    return jnp.any(kernel != 0, axis=tuple(range(kernel.ndim - 1)))


def _moments(x):
    """Mean, variance and unbiased variance of each channel."""
    count = x[..., 0].size
    if count < 2:
        raise UserError(
            f"batch normalisation needs more than one value per channel to train; got inputs of "
            f"shape {x.shape}. Use a larger batch or larger images."
        )
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.square(x - _wide(mean, x)).mean(axes)
    return mean, var, var * (count / (count - 1))


def _wide(vector, like):
    """`(channel,)` with as many axes as `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
