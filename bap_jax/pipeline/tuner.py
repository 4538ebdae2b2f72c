"""Prunes and tunes runs that share a program: their settings differ in arrays only.

settings ─► values (arrays of each member) ─┐
dense network, data ────────────────────────┴─► program ─► rows, selection ─► TuningResult
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import data, metric_rows, sharding, training
from bap_jax.constraints import DenseReference
from bap_jax.errors import UserError
from bap_jax.pipeline.assembly import pruner_from_settings, trainer_from_settings
from bap_jax.pipeline.context import RunContext
from bap_jax.pipeline.monitor import Log, RunMonitor, TuningResult
from bap_jax.pruning.arrays import updater_arrays, with_arrays
from bap_jax.reporting.selection import RULES
from bap_jax.training import DivergedError, Pruner, Settings, Trainer, TrainState
from bap_jax.training.evaluate import make_split_evaluation, make_split_sums
from bap_jax.training.loop import Program, Progress, Runner
from bap_jax.training.members import copy_to_host
from bap_jax.training.methods import build_method, method_name
from bap_jax.training.split_sums import BatchEvaluation, SplitSums
from bap_jax.training.values import (
    MemberValues,
    changed_fields,
    make_values,
    structure_of,
    with_values,
)
from bap_jax.types import Array, Dataset, PyTree

Outcome = TuningResult | DivergedError


class SharedArrays(NamedTuple):
    """Arrays that the members of a program share.

    Attributes:
      reference: the dense network on the training split.
      validation: the validation split if it is evaluated within the program; else None.
    """

    reference: DenseReference
    validation: Dataset | None


class TuningProgram(Program):
    """Pruning and tuning of runs whose settings have one structure.

    Args:
      context: dense network and data.
      settings: of any of the runs.
      pruner: of that run; the others' differ in arrays.
    """

    def __init__(self, context: RunContext, settings: Settings, pruner: Pruner):
        self.num_samples = context.splits.train.size
        self.batch_size = settings.batch_size
        self.mesh = context.mesh
        self._model, self._settings, self._pruner = context.model, settings, pruner
        self._criterion = context.criterion
        rule = RULES[settings.selection]
        evaluate = make_split_evaluation if rule.needs_correct else make_split_sums
        self._on_validation = evaluate(
            context.model,
            len(context.splits.group_names),
            context.splits.validation.size,
            mesh=context.mesh,
            criterion=context.criterion,
        )

    def trainer(self, values: MemberValues, shared: SharedArrays) -> Trainer:
        """The trainer of the member with these values; called while the program is traced."""
        settings = with_values(self._settings, values)
        updater = with_arrays(self._pruner.updater, values.pruner)
        method = build_method(shared.reference, settings)
        steps = data.num_batches(self.num_samples, self.batch_size)
        pruner = self._pruner._replace(updater=updater)
        return trainer_from_settings(self._model, method, pruner, settings, steps, self._criterion)

    def keys(self, values: MemberValues) -> tuple[Array, Array]:
        """Keys of the member's seed: for the order of samples, and for its first state."""
        order, state = jax.random.split(jax.random.key(values.seed))
        return order, state

    def observe(
        self, state: TrainState, values: MemberValues, shared: SharedArrays
    ) -> tuple[metric_rows.EpochNumbers, SplitSums | BatchEvaluation | None]:
        """Numbers for the row of the epoch, and sums over the validation split.

        Predictions come with them if the rule of selection needs them; None if the split is
        streamed.
        """
        del values
        if shared.validation is None:
            return metric_rows.epoch_numbers(state), None
        return (
            metric_rows.epoch_numbers(state),
            self._on_validation(state.variables, shared.validation),
        )


class CompiledRun(NamedTuple):
    """A program and what it is called with; `make_compiled_run` makes one.

    Attributes:
      context: dense network and data.
      settings: of any of the runs.
      program: of all runs whose settings have the same structure.
      train: the training split, as the steps take it.
      shared: arrays that the members share.
      pruners: of members by seed and sparsity, made so far.
    """

    context: RunContext
    settings: Settings
    program: TuningProgram
    train: Dataset
    shared: SharedArrays
    pruners: dict[tuple[int, float], Pruner]

    def values(self, members: Sequence[Settings]) -> MemberValues:
        """The arrays `(member, ...)` of members with these settings."""
        params, rows = self.context.variables.params, []
        for member in members:
            updater = self._pruner(member).updater
            rows.append(make_values(member, updater_arrays(updater, params)))
        return sharding.replicate(_stack(rows), self.context.mesh)

    def _pruner(self, member: Settings) -> Pruner:
        """Masks from data are made once for all members that share them."""
        key = member.seed, member.pruning.sparsity
        if key not in self.pruners:
            sparsity = dataclasses.replace(self.settings.pruning, sparsity=key[1])
            member = dataclasses.replace(self.settings, seed=key[0], pruning=sparsity)
            self.pruners[key] = _make_pruner(self.context, self.train, member)
        return self.pruners[key]


def make_compiled_run(context: RunContext, settings: Settings) -> CompiledRun:
    """The program of all runs that differ from `settings` only in what `training.SWEPT` names.

    Args:
      context: dense network and data.
      settings: of any of the runs, checked.
    """
    needs_logits = build_method(context.reference, settings).needs_dense_logits
    train = context.train_with_dense_logits() if needs_logits else context.train
    reference = sharding.replicate(context.reference, context.mesh)
    in_program = not data.is_streamed(context.validation)
    shared = SharedArrays(reference, context.validation if in_program else None)
    pruner = _make_pruner(context, train, settings)
    program = TuningProgram(context, settings, pruner)
    pruners = {(settings.seed, settings.pruning.sparsity): pruner}
    return CompiledRun(context, settings, program, train, shared, pruners)


class Tuner(NamedTuple):
    """A compiled program for runs whose settings have one structure; `make_tuner` makes one.

    Attributes:
      compiled: the program and what it is called with.
      runner: runs its epochs.
    """

    compiled: CompiledRun
    runner: Runner

    def run(
        self,
        members: Sequence[Settings],
        logs: Sequence[Log] | None = None,
        progress: Progress = iter,
    ) -> list[Outcome]:
        """Prunes and tunes networks, and chooses an iterate of each on the validation split.

        Args:
          members: settings of the runs.
          logs: for each a function that takes one dict per step and one per epoch; by default their
            rows are dropped.
          progress: wraps the range of epochs.

        Returns:
          For each member its result, or the error of one that diverged.

        Raises:
          UserError: the settings cannot share a program.
        """
        check_structure(members, self.compiled.settings)
        logs = logs or [_drop] * len(members)
        if self.compiled.context.execution.members == "single":
            pairs = zip(members, logs, strict=True)
            return [self._run_at_once([member], [log], progress)[0] for member, log in pairs]
        return self._run_at_once(members, logs, progress)

    def _run_at_once(self, members, logs, progress) -> list[Outcome]:
        context, settings, _, train, shared, _ = self.compiled
        values = self.compiled.values(_filled_up(members, context))
        states = self.runner.init(values, shared, context.variables)
        method = build_method(context.reference, settings)
        monitor = RunMonitor(context, method, members, logs, copy_to_host(states))
        epochs = progress(range(settings.epochs))
        events = self.runner.run(states, values, shared, train, epochs)
        del states  # which the runner overwrites
        for event in events:
            monitor.update(event)
            if monitor.all_diverged:
                break
        return monitor.outcomes()


def make_tuner(context: RunContext, settings: Settings) -> Tuner:
    """A tuner for all runs that differ from `settings` only in what `training.SWEPT` names.

    Args:
      context: dense network and data.
      settings: of any of the runs, checked.
    """
    compiled = make_compiled_run(context, settings)
    return Tuner(compiled, Runner(compiled.program, context.execution))


def tune_one(
    tuner: Tuner, settings: Settings, *, log: Log | None = None, progress: Progress = iter
) -> TuningResult:
    """Prunes and tunes a single network; arguments as in `Tuner.run`.

    Raises:
      DivergedError: a number that is not finite.
    """
    [outcome] = tuner.run([settings], [log or _drop], progress)
    if isinstance(outcome, DivergedError):
        raise outcome
    return outcome


def check_structure(members: Sequence[Settings], settings: Settings) -> None:
    """Raises an error for members that cannot share a program with `settings`.

    Raises:
      UserError: settings differ in something that is not an array; the message names it.
    """
    for member in members:
        if structure_of(member) != structure_of(settings):
            raise UserError(
                f"members of one program may differ in {', '.join(training.SWEPT)} only; these "
                f"differ in {', '.join(_differences(member, settings))}. Make a tuner for each."
            )


def _differences(member: Settings, settings: Settings) -> list[str]:
    fields = changed_fields(structure_of(member), structure_of(settings))
    return [f"{name} ({_shown(one)} and {_shown(other)})" for name, (one, other) in fields.items()]


def _shown(value) -> str:
    return str(value) if isinstance(value, bool | int | float | tuple) else method_name(value)


def _drop(row: dict) -> None:
    del row


def _filled_up(members, context):
    """The members, the last one repeated until all devices have the same number."""
    mesh = context.execution.mesh() if context.execution.spread == "members" else None
    short = -len(members) % mesh.size if mesh else 0
    return [*members, *[members[-1]] * short]


def _make_pruner(context: RunContext, train: Dataset, settings: Settings) -> Pruner:
    return pruner_from_settings(
        context.model,
        context.variables,
        train,
        settings,
        len(context.splits.group_names),
        num_samples=context.splits.train.size,
        mesh=context.mesh,
        criterion=context.criterion,
    )


def _stack(rows: Sequence[PyTree]) -> PyTree:
    def stack(*leaves):
        is_key = jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return jnp.stack(leaves) if is_key else np.stack(leaves)

    return jax.tree.map(stack, *rows)
