"""The mean of the weights of a run's last epochs, for the rule `average`.

    mean of the weights of the iterates e > E − E_a, E_a = max(round(E_f / 3), 1)

E epochs in all, of which E_f are of fine-tuning. Only iterates with the masks of the last one
count: where masks still move, as in dynamic sparse training, the mean would have more weights than
the masks keep. Statistics of batches belong to the weights that they were taken under; so after the
mean they are taken anew.

Source: P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI
2018.
"""

from typing import Any

import jax
import numpy as np

from bap_jax.types import Params, PyTree


def num_averaged(finetune_epochs: int) -> int:
    """How many of the last epochs are averaged.

    Example:
      >>> [num_averaged(epochs) for epochs in (1, 2, 45)]
      [1, 1, 15]
    """
    return max(round(finetune_epochs / 3), 1)


class RunningMean:
    """The mean of the weights of iterates with the same masks, on the host.

    Attributes:
      mean: of the weights; None before the first iterate.
      count: of the iterates.
    """

    def __init__(self):
        self.mean: Params | None = None
        self.count = 0
        self._masks: PyTree = None

    def add(self, params: Params, masks: PyTree) -> None:
        """Adds an iterate; if its masks differ from those of the iterate before, starts anew.

        Args:
          params: weights on the host; those that masks remove are 0.
          masks: of the iterate.
        """
        if self.mean is None or not _equal(masks, self._masks):
            self.mean, self._masks, self.count = params, masks, 1
            return
        self.count += 1
        self.mean = jax.tree.map(self._towards, self.mean, params)

    def _towards(self, mean: np.ndarray, leaf: np.ndarray) -> Any:
        if not np.issubdtype(leaf.dtype, np.inexact):
            return leaf
        return mean + ((leaf - mean) / self.count).astype(leaf.dtype)


def _equal(masks: PyTree, others: PyTree) -> bool:
    pairs = zip(jax.tree.leaves(masks), jax.tree.leaves(others), strict=True)
    return all(np.array_equal(mask, other) for mask, other in pairs)
