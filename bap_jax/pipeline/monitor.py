"""What the host does while programs run: writes rows, watches for NaN, chooses iterates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bap_jax import audit, metric_rows, training
from bap_jax.pipeline.context import RunContext
from bap_jax.training import finite
from bap_jax.training.evaluate import split_means
from bap_jax.training.methods import Method
from bap_jax.training.settings import Settings
from bap_jax.types import PyTree, Variables

Log = Callable[[dict[str, Any]], None]


class Snapshot(NamedTuple):
    """A network at the end of an epoch.

    Attributes:
      epoch: which.
      variables: its arrays.
      masks: which weights are kept.
      score: on the validation split.
    """

    epoch: int
    variables: Variables
    masks: PyTree
    score: audit.Score


class TuningResult(NamedTuple):
    """The two iterates that are reported.

    Attributes:
      selected: the iterate chosen on the validation split.
      last: the iterate after the last epoch.
      feasibility: what `audit.feasibility` says; None for methods that constrain nothing.
      unconstrained: groups too small to constrain, with their training samples.
    """

    selected: Snapshot
    last: Snapshot
    feasibility: dict[str, Any] | None = None
    unconstrained: dict[str, int] | None = None


class _Member:
    """One run, as far as it has come."""

    def __init__(self, settings, log):
        self.settings, self.log = settings, log
        self.history = audit.History()
        self.selected = self.last = self.error = None


class RunMonitor:
    """Follows the members of a program.

    Args:
      context: dense network and data.
      method: of all members.
      members: settings of each.
      logs: a function for each, which takes one dict a step and one an epoch.
      states: before the first epoch.
    """

    def __init__(
        self,
        context: RunContext,
        method: Method,
        members: Sequence[Settings],
        logs: Sequence[Log],
        states: training.TrainState,
    ):
        self._context, self._method = context, method
        self._members = [_Member(*pair) for pair in zip(members, logs, strict=True)]
        self._good = training.MembersEnd(-1, states, None, None)
        self._frequency = np.asarray(context.reference.frequency)  # on the host, as rows are made
        group_names = context.splits.group_names
        self._names = method.constraint.names(group_names), group_names

    def update(self, found: training.StepBlock | training.MembersEnd) -> None:
        """Takes in what a runner yields."""
        if isinstance(found, training.StepBlock):
            for i, member in enumerate(self._members):
                if not member.error:
                    self._update_steps(i, member, found)
            return
        for i, member in enumerate(self._members):
            if not member.error:
                self._update_end(i, member, found)
        self._good = found

    @property
    def all_diverged(self) -> bool:
        """Whether no member is left that could go on."""
        return all(member.error for member in self._members)

    def outcomes(self) -> list[TuningResult | training.DivergedError]:
        """For each member its iterates, or its error."""
        return [member.error or self._tuned(member) for member in self._members]

    def _update_steps(self, i, member, block):
        bad = finite.in_block(block.metrics, i, *self._names)
        num_steps = bad.step if bad else block.metrics.loss.shape[1]
        own = jax.tree.map(lambda leaf: leaf[i, :num_steps], block.metrics)
        if num_steps:
            facts = block.epoch, own, self._frequency, self._method
            for row in metric_rows.step_rows(block.first, *facts):
                member.log(row)
            flat = (metric_rows.flatten_sets(sets) for sets in (own.multipliers, own.violation))
            member.history.add(block.epoch, *flat)
        if bad:
            self._fail(i, member, bad.text, block.first + bad.step, block.epoch)

    def _update_end(self, i, member, end):
        if not end.is_finite[i]:
            leaf = finite.in_tree(training.member_state(end.states.params, i))
            self._fail(i, member, f"weight {leaf}", None, end.epoch)
            return
        numbers, sums = jax.tree.map(lambda leaf: leaf[i], end.observed)
        score = self._score(sums, end, i)
        member.log(metric_rows.epoch_row(end.epoch, numbers, score))
        best = member.selected and member.selected.score
        final = end.epoch >= member.settings.pruning.epochs
        if final and audit.better(score, best, member.settings.tolerance):
            member.selected = _snapshot(end, i, score)
        if end.epoch == member.settings.epochs - 1:
            member.last = _snapshot(end, i, score)

    def _score(self, sums, end, i):
        if sums is None:
            variables = training.member_state(end.states, i).variables
            means = self._context.evaluate(variables, "validation")
        else:
            means = split_means(sums)
        return audit.score(self._context.dense_means("validation"), means)

    def _fail(self, i, member, text, step, epoch):
        good = training.EpochEnd(self._good.epoch, training.member_state(self._good.states, i))
        member.error = training.diverged(text, step, epoch, good)

    def _tuned(self, member):
        method, names = self._method, self._context.splits.group_names
        small = _unconstrained(method, self._context.reference, names, member.settings)
        feasibility = None
        if method.is_constrained:
            constraints = method.constraint.names(names)
            # As many constraints a group as the method has, all of one kind before the next.
            left_out = {
                c for i, c in enumerate(constraints) if names[i % len(names)] in (small or ())
            }
            feasibility = audit.feasibility(member.history, constraints, left_out=left_out)
        return TuningResult(member.selected, member.last, feasibility, small)


def _snapshot(end, i, score):
    return Snapshot(end.epoch, *_network(end.states, i), score)


@jax.jit
def _network(states, i):
    """Variables and masks of one member."""
    states = states._replace(lagrangian=(), constraint=())
    state = training.member_state(states, i)
    return state.variables, state.masks


def _unconstrained(method, reference, group_names, settings):
    if not method.constraint.size or method.watches_all:
        return None
    counts = np.asarray(reference.count).astype(int).tolist()
    least = settings.constraint.min_group_size
    return {name: n for name, n in zip(group_names, counts, strict=True) if n < least}
