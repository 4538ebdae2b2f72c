"""Dense models and batches that are small enough for calculations by hand."""

import jax.numpy as jnp
import numpy as np

from bap_jax.constraints import DenseReference, Observations

# Six samples: three of group 0, two of group 1 of which the second is padding, one of no group.
IDS = (0, 0, 0, 1, 1, 7)
WEIGHT = (1, 1, 1, 1, 0, 1)
CORRECT = (1, 1, 0, 1, 0, 0)
LOSS = (0.3, 0.5, 0.7, 1.0, 9.0, 0.1)


def floats(values):
    return jnp.asarray(values, jnp.float32)


def reference(accuracy=(0.9, 0.8, 0.5), loss=(0.2, 0.4, 1.0), count=(6, 3, 1)):
    """A dense model of disjoint groups; its overall numbers are means over samples."""
    frequency = np.asarray(count) / np.sum(count)
    numbers = (accuracy, frequency @ accuracy, loss, frequency @ loss, frequency, count)
    return DenseReference(*map(floats, numbers))


def observe(ids=IDS, *, loss=LOSS, correct=CORRECT, weight=WEIGHT, **others):
    """One forward pass; `ids` has one entry, or one tuple of entries, per sample."""
    ids = jnp.asarray(np.reshape(ids, (len(ids), -1)), jnp.int32)
    return Observations(floats(loss), floats(correct), ids, floats(weight), **others)


def observe_bits(sparse, dense, ids):
    """Samples that the sparse and the dense model get right or wrong; all have label 0."""
    zeros = np.zeros(len(ids))
    return observe(
        ids,
        loss=zeros,
        correct=sparse,
        weight=zeros + 1,
        labels=jnp.asarray(zeros, jnp.int32),
        dense_logits=jnp.asarray(dense)[:, None] * floats([[1, 0]]) + floats([[0, 0.5]]),
    )
