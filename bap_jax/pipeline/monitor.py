"""The host's work while programs run: it writes rows, looks for NaN, and chooses iterates."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from bap_jax import metric_rows, reporting, sharding
from bap_jax._deprecated import warn
from bap_jax.lagrangian import SCHEMES
from bap_jax.pipeline.context import RunContext
from bap_jax.pipeline.iterates import Iterates, Snapshot, iterate_of
from bap_jax.pruning.averaged import evaluation_params, schedule_free_states
from bap_jax.pruning.masks import map_masks
from bap_jax.reporting.behaviour import ConstrainedGroups
from bap_jax.reporting.behaviour_report import multiplier_behaviour
from bap_jax.training import DivergedError, EpochEnd, Method, Settings, TrainState, finite
from bap_jax.training.members import MembersEnd, StepBlock, member_state, own_member_state
from bap_jax.training.methods import group_of_constraints, watched
from bap_jax.training.split_sums import (
    BatchEvaluation,
    SplitMeans,
    evaluation_means,
    split_means,
)
from bap_jax.types import PyTree, Variables


class Log(Protocol):
    """Where the rows of a run go."""

    def __call__(self, row: dict[str, Any], /) -> object:
        """Takes the row of a step or of an epoch, see `metric_rows`."""
        ...


class TuningResult(NamedTuple):
    """The networks that are reported.

    Attributes:
      pruned: the network that the run hands out, chosen as `Settings.selection` says.
      last: the iterate after the last epoch.
      feasibility: what `reporting.feasibility` says; None for methods that constrain nothing.
      unconstrained: groups too small to constrain, with their numbers of training samples; None
        if the method watches all groups or constrains nothing.
      epochs_averaged: how many iterates the weights of `pruned` are the mean of; None if it is one.
      constraint_names: one for each constraint, in the order of `metrics.jsonl`.
      multipliers: how they behaved, None for methods without, see
        `reporting.behaviour_report`.
    """

    pruned: Snapshot
    last: Snapshot
    feasibility: dict[str, Any] | None = None
    unconstrained: dict[str, int] | None = None
    epochs_averaged: int | None = None
    constraint_names: tuple[str, ...] = ()
    multipliers: dict[str, Any] | None = None

    @property
    def selected(self) -> Snapshot:
        """The former name of `pruned`."""
        warn("TuningResult.selected", "TuningResult.pruned")
        return self.pruned


class _Member:
    """What is known so far about one run."""

    def __init__(self, settings: Settings, log: Log):
        self.settings, self.log = settings, log
        self.history = reporting.History()
        self.iterates = Iterates(settings)
        self.error: DivergedError | None = None


class RunMonitor:
    """Follows the members of a program.

    Args:
      context: dense network and data.
      method: of all members.
      members: settings of each.
      logs: where the rows of each go.
      states: before the first epoch, `(member, ...)`, on the host.
    """

    def __init__(
        self,
        context: RunContext,
        method: Method,
        members: Sequence[Settings],
        logs: Sequence[Log],
        states: TrainState,
    ):
        self._context, self._method = context, method
        self._members = [_Member(*pair) for pair in zip(members, logs, strict=True)]
        self._good_epoch, self._good_states = -1, states
        self._frequency = np.asarray(context.reference.frequency)  # on the host, as rows are made
        group_names = context.splits.group_names
        self._names = method.constraint.names(group_names), group_names

    def update(self, event: StepBlock | MembersEnd) -> None:
        """Processes one event of a runner: the numbers of some steps, or the end of an epoch."""
        going_on = [(i, member) for i, member in enumerate(self._members) if not member.error]
        if isinstance(event, StepBlock):
            for i, member in going_on:
                self._update_steps(i, member, event)
            return
        for i, member in going_on:
            self._update_end(i, member, event)
        self._good_epoch, self._good_states = event.epoch, event.states

    @property
    def all_diverged(self) -> bool:
        """Whether every member has diverged."""
        return all(member.error for member in self._members)

    def outcomes(self) -> list[TuningResult | DivergedError]:
        """For each member its iterates, or its error."""
        return [member.error or self._result(member) for member in self._members]

    def _update_steps(self, i: int, member: _Member, block: StepBlock) -> None:
        bad = finite.in_block(block.metrics, i, *self._names)
        num_steps = bad.step if bad else block.metrics.loss.shape[1]
        own = jax.tree.map(lambda leaf: leaf[i, :num_steps], block.metrics)
        if num_steps:
            rows = metric_rows.step_rows(
                block.first, block.epoch, own, self._frequency, self._method
            )
            for row in rows:
                member.log(row)
            multipliers, violation = map(metric_rows.flatten_sets, (own.multipliers, own.violation))
            member.history.add(block.epoch, multipliers, violation)
        if bad:
            self._fail(i, member, bad.text, block.first + bad.step, block.epoch)

    def _update_end(self, i: int, member: _Member, end: MembersEnd) -> None:
        if not end.is_finite[i]:
            leaf = finite.in_tree(member_state(end.states.params, i))
            self._fail(i, member, f"weight {leaf}", None, end.epoch)
            return
        numbers, observed = jax.tree.map(lambda leaf: leaf[i], end.observed)
        means = self._means(observed, end, i)
        score = reporting.score(self._context.dense_means("validation"), means)
        member.log(metric_rows.epoch_row(end.epoch, numbers, score))
        bits = (None, None)
        if member.iterates.needs_correct:
            split = self._context.splits.validation
            dense = self._context.dense_means("validation")
            bits = dense.correct_on(split), means.correct_on(split)
        member.iterates.add(
            iterate_of(end.epoch, score, *bits), functools.partial(_network, end.states, i)
        )

    def _means(self, observed, end: MembersEnd, i: int) -> SplitMeans:
        """Of a member on the validation split."""
        if observed is None:
            variables, _ = _network(end.states, i)
            return self._context.evaluate(variables, "validation")
        if isinstance(observed, BatchEvaluation):
            return evaluation_means(observed, self._context.splits.validation.size)
        return split_means(observed)

    def _fail(self, i: int, member: _Member, text: str, step: int | None, epoch: int) -> None:
        good = EpochEnd(self._good_epoch, own_member_state(self._good_states, i))
        member.error = finite.diverged(text, step, epoch, good)

    def _result(self, member: _Member) -> TuningResult:
        pruned, last, count = self._networks(member)
        counts = np.asarray(self._context.reference.count).astype(int)
        large = counts >= member.settings.constraint.min_group_size
        small = None
        if self._method.constraint.size and not self._method.watches_all:
            group_names = self._context.splits.group_names
            rows = zip(group_names, counts.tolist(), large, strict=True)
            small = {name: count for name, count, is_large in rows if not is_large}
        feasibility, multipliers, names = None, None, _flat_names(self._names[0])
        if self._method.is_constrained or self._method.has_multipliers:
            acts = watched(self._method, large)
            left_out = {name for name, one in zip(names, acts, strict=True) if not one}
            multipliers = self._multipliers(member, names, left_out)
            if self._method.is_constrained:
                feasibility = reporting.feasibility(member.history, names, left_out=left_out)
        return TuningResult(pruned, last, feasibility, small, count, tuple(names), multipliers)

    def _multipliers(self, member: _Member, names, left_out) -> dict[str, Any] | None:
        """How the multipliers behaved; None if the scheme shows something else as multipliers."""
        method = self._method
        if not SCHEMES[member.settings.scheme].has_multipliers:
            return None
        groups = ConstrainedGroups(
            self._names[1],
            self._context.splits.attribute_of_group(),
            self._frequency,
            method.group_weights,
            group_of_constraints(method.constraint, self._frequency.size),
        )
        return multiplier_behaviour(
            member.history,
            names,
            groups,
            bounds_violations=method.is_constrained,
            left_out=left_out,
        )

    def _networks(self, member: _Member) -> tuple[Snapshot, Snapshot, int | None]:
        """The product and the last iterate, on the device, and how many iterates were averaged."""
        chosen, on_host = member.iterates.chosen(), member.iterates.last
        assert on_host is not None
        last = self._on_device(on_host)
        average = member.iterates.average()
        if average is None:
            return last if chosen is on_host else self._on_device(chosen), last, None
        context, settings = self._context, member.settings
        variables = context.with_new_statistics(average[0], settings.batch_size, settings.seed)
        score = reporting.score(
            context.dense_means("validation"), context.evaluate(variables, "validation")
        )
        return last._replace(variables=variables, score=score), last, average[1]

    def _on_device(self, snapshot: Snapshot) -> Snapshot:
        arrays, mesh = (snapshot.variables, snapshot.masks), self._context.mesh
        arrays = jax.device_put(arrays) if mesh is None else sharding.replicate(arrays, mesh)
        return snapshot._replace(variables=arrays[0], masks=arrays[1])


def _flat_names(names: Sequence[str] | Mapping[str, Sequence[str]]) -> list[str]:
    """One name per constraint; for several sets `SET: NAME`, one set after the other."""
    if isinstance(names, Mapping):
        return [f"{key}: {name}" for key, part in names.items() for name in part]
    return list(names)


def _network(states: TrainState, i: int) -> tuple[Variables, PyTree]:
    """Variables and masks of one member, on the host."""
    averages = schedule_free_states(states.lagrangian.primal_state)
    averages = [each._replace(base_optimizer_state=()) for each in averages]
    parts = states.params, states.model_state, states.masks, averages
    params, model_state, masks, averages = own_member_state(parts, i)
    params = evaluation_params(params, averages)
    # As `apply_masks`, which would put them on the device.
    params = map_masks(lambda mask, leaf: np.where(mask, leaf, 0).astype(leaf.dtype), masks, params)
    return Variables(params, model_state), masks
