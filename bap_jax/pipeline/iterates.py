"""The iterates of a run that may still become its product: their numbers, and a few networks."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bap_jax import reporting
from bap_jax.pipeline.averaging import RunningMean, num_averaged
from bap_jax.reporting.selection import RULES, Iterate
from bap_jax.training import Settings
from bap_jax.types import PyTree, Variables


class Snapshot(NamedTuple):
    """A network at the end of an epoch.

    Attributes:
      epoch: its number.
      variables: arrays of the network.
      masks: which weights are kept.
      score: on the validation split.
    """

    epoch: int
    variables: Variables
    masks: PyTree
    score: reporting.Score


class Iterates:
    """What is known so far of the iterates of one run.

    Args:
      settings: of the run.

    Attributes:
      needs_correct: whether the rule needs to know which validation samples an iterate has right.
      last: the iterate after the last epoch; None before.
    """

    def __init__(self, settings: Settings):
        self._settings, self._rule = settings, RULES[settings.selection]
        self._first_averaged = settings.epochs - num_averaged(settings.finetune_epochs)
        self._known: list[Iterate] = []
        self._kept: dict[int, Snapshot] = {}
        self._mean = RunningMean()
        self.needs_correct = self._rule.needs_correct
        self.last: Snapshot | None = None

    def add(self, iterate: Iterate, network: Callable[[], tuple[Variables, PyTree]]) -> None:
        """Adds the iterate at the end of an epoch.

        Args:
          iterate: its numbers on the validation split.
          network: copies its variables and masks to the host; called only if they are needed.
        """
        settings = self._settings

        @functools.cache
        def snapshot():
            return Snapshot(iterate.epoch, *network(), iterate.score)

        if iterate.epoch >= settings.pruning.epochs:  # at the final sparsity
            self._known.append(iterate)
            wanted = self._rule.candidates(self._known, settings.tolerance)
            self._kept = {i: kept for i, kept in self._kept.items() if i in wanted}
            newest = len(self._known) - 1
            if newest in wanted:
                self._kept[newest] = snapshot()
        if self._rule.averages and iterate.epoch >= self._first_averaged:
            self._mean.add(snapshot().variables.params, snapshot().masks)
        if iterate.epoch == settings.epochs - 1:
            self.last = snapshot()

    def chosen(self) -> Snapshot:
        """The iterate that the rule chooses, on the host; after the last epoch."""
        assert self.last, "the last epoch has not ended"
        index = self._rule.choose(self._known, self._settings.tolerance)
        return self.last if index == len(self._known) - 1 else self._kept[index]

    def average(self) -> tuple[Variables, int] | None:
        """The mean of the weights with the statistics of the last iterate, and of how many it is.

        None if the rule does not average.
        """
        if not self._rule.averages:
            return None
        assert self.last, "the last epoch has not ended"
        return self.last.variables._replace(params=self._mean.mean), self._mean.count


def iterate_of(
    epoch: int,
    score: reporting.Score,
    dense_correct: np.ndarray | None,
    correct: np.ndarray | None,
) -> Iterate:
    """What a rule knows of an iterate.

    Args:
      epoch: its number.
      score: on the validation split.
      dense_correct, correct: `(sample,)` bool, which validation samples the dense network and the
        iterate have right; None if the rule does not need them.
    """
    if correct is None or dense_correct is None:
        return Iterate(epoch, score)
    return Iterate(epoch, score, float(np.mean(dense_correct != correct)), correct)
