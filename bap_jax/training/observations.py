"""What a forward pass says about its batch, as constraints and objectives read it."""

import jax.numpy as jnp

from bap_jax import metrics
from bap_jax.constraints import Observations
from bap_jax.errors import UserError
from bap_jax.metrics import Criterion
from bap_jax.types import Array, Dataset


def observe(
    logits: Array, batch: Dataset, weight: Array, criterion: Criterion, label_smoothing: float
) -> Observations:
    """Loss and correctness of each sample, with everything that methods may want beside them.

    Args:
      logits: `(batch, ...)`.
      batch: the samples.
      weight: `(batch,)`, 0 for samples that fill up the batch.
      criterion: loss and correctness of each sample.
      label_smoothing: of the cross-entropy.

    Raises:
      UserError: the criterion does not return one number for each sample.
    """
    if criterion.loss is metrics.cross_entropy:
        loss = metrics.cross_entropy(logits, batch.labels, label_smoothing)
    else:
        loss = metrics.sample_losses(criterion, logits, batch.labels)
    return Observations(
        loss,
        metrics.sample_correct(criterion, logits, batch.labels),
        batch.group_ids,
        weight,
        batch.labels,
        logits,
        batch.dense_logits,
        criterion,
    )


def nonfinite_group(seen: Observations) -> Array:
    """Group of the first sample whose loss is not finite; −1 if all are, or none is."""
    bad = ~jnp.isfinite(seen.loss)
    group = seen.group_ids[jnp.argmax(bad), 0]
    return jnp.where(bad.any() & ~bad.all(), group, -1)


def check_smoothing(criterion: Criterion, label_smoothing: float) -> None:
    """Checks that there is a cross-entropy to smooth.

    Raises:
      UserError: another loss than the cross-entropy of classes is to be smoothed.
    """
    if label_smoothing and criterion.loss is not metrics.cross_entropy:
        raise UserError(
            "label_smoothing is for the cross-entropy of class ids; smooth the labels within your "
            "own loss, and leave label_smoothing out."
        )
