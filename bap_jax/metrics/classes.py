"""Loss and correctness of single samples whose labels are class ids: the defaults of a run."""

import jax
import jax.numpy as jnp
import optax

from bap_jax.types import Array


def cross_entropy(logits: Array, labels: Array, label_smoothing: float = 0.0) -> Array:
    """Cross-entropy of each sample.

    Args:
      logits: `(batch, class)`.
      labels: `(batch,)` class ids.
      label_smoothing: probability mass spread evenly over all classes.

    Returns:
      `(batch,)` nats.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def correctness(logits: Array, labels: Array) -> Array:
    """1.0 where the largest logit is the label's, else 0.0; a tie goes to the first class.

    Args:
      logits: `(batch, class)`.
      labels: `(batch,)` class ids.

    Returns:
      `(batch,)` float32.
    """
    return (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)


def kl_divergence(target_logits: Array, logits: Array) -> Array:
    """KL(p ‖ q) of each sample, p and q the softmax of the logits.

    Args:
      target_logits: `(batch, class)` of p.
      logits: `(batch, class)` of q, differentiable.

    Returns:
      `(batch,)` nats.
    """
    log_p, log_q = jax.nn.log_softmax(target_logits), jax.nn.log_softmax(logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
