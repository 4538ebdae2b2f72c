"""Words shared by every room of the house: arrays, batches, data sets, and the user's error.

Axis names used in shapes throughout: `batch` (samples of one step), `sample` (samples of a part),
`attribute` (ways in which samples are grouped), `group` (all groups of all attributes, numbered
consecutively), `class` (labels), `constraint` (one per group in this project's problems).
"""

from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any
Params = PyTree
ModelState = PyTree


class UserError(ValueError):
    """A mistake in what the user supplied; the text says what was expected and what to write."""


class Variables(NamedTuple):
    """Everything that a network carries.

    Attributes:
      params: trainable arrays, the only ones that are pruned and differentiated.
      state: arrays that the forward pass itself moves (running statistics, dropout counters).
    """

    params: Params
    state: ModelState


class Dataset(NamedTuple):
    """Samples of one part, or one batch of them.

    Attributes:
      inputs: `(sample, ...)` what the network takes.
      labels: `(sample,)` int32 class ids.
      group_ids: `(sample, attribute)` int32; one column for each attribute, ids unique over all
        attributes. An id outside `[0, group)` belongs to no group.
      dense_logits: `(sample, class)` of the dense model, where a method needs them.
    """

    inputs: Array
    labels: Array
    group_ids: Array
    dense_logits: Array | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.labels.shape[0]
