"""Pruning and fine-tuning of runs that share a program: settings that differ in arrays only.

settings ─► values (arrays of each member) ─┐
dense network, data ────────────────────────┴─► program ─► rows, selection ─► TuningResult
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import data, metric_rows, sharding, training
from bap_jax.constraints import DenseReference
from bap_jax.models import Model
from bap_jax.pipeline.assembly import pruner_from_settings, trainer_from_settings
from bap_jax.pipeline.context import RunContext, make_context
from bap_jax.pipeline.monitor import Log, RunMonitor, TuningResult
from bap_jax.pruning.arrays import updater_arrays, with_arrays
from bap_jax.training import methods
from bap_jax.training.settings import Settings
from bap_jax.types import Dataset, PyTree, UserError, Variables

Outcome = TuningResult | training.DivergedError


class SharedArrays(NamedTuple):
    """Arrays that a program's members share.

    Attributes:
      reference: the dense network on the training split.
      validation: that split, where it is evaluated within the program; else None.
    """

    reference: DenseReference
    validation: Dataset | None


class CompiledRun(NamedTuple):
    """A program and what it is called with.

    Attributes:
      program: of all runs whose settings have one structure.
      train: the training split, as its steps take it.
      shared: arrays that its members share.
      values: `settings of each member -> training.MemberValues (member, ...)`.
    """

    program: training.Program
    train: Dataset
    shared: SharedArrays
    values: Callable[[Sequence[Settings]], training.MemberValues]


class Tuner(NamedTuple):
    """Compiled once, for runs whose settings have one structure.

    Attributes:
      run: `(settings of each member, logs, progress) -> ` for each member a `TuningResult`, or the
        error of one that diverged.
    """

    run: Callable[..., list[Outcome]]


def make_tuner(context: RunContext, settings: Settings) -> Tuner:
    """A tuner for all runs that differ from `settings` in what `training.SWEPT` names.

    Args:
      context: dense network and data.
      settings: of any of the runs, checked.
    """
    compiled = make_compiled_run(context, settings)
    runner = training.make_runner(compiled.program, context.execution)

    def run(
        members: Sequence[Settings],
        logs: Sequence[Log] | None = None,
        progress: training.Progress = iter,
    ) -> list[Outcome]:
        check_structure(members, settings)
        logs = logs or [lambda row: None] * len(members)
        if context.execution.members == "single":
            pairs = zip(members, logs, strict=True)
            return [run_together([one], [log], progress)[0] for one, log in pairs]
        return run_together(members, logs, progress)

    def run_together(members, logs, progress):
        values = compiled.values(_filled_up(members, context))
        states = runner.init(values, compiled.shared, context.variables)
        method = methods.build_method(context.reference, settings)
        monitor = RunMonitor(context, method, members, logs, states)
        epochs = progress(range(settings.epochs))
        for found in runner.run(states, values, compiled.shared, compiled.train, epochs):
            monitor.update(found)
            if monitor.all_diverged:
                break
        return monitor.outcomes()

    return Tuner(run)


def make_compiled_run(context: RunContext, settings: Settings) -> CompiledRun:
    """The program of all runs that differ from `settings` in what `training.SWEPT` names.

    Args:
      context: dense network and data.
      settings: of any of the runs, checked.
    """
    train = _with_dense_logits(context, settings)
    reference = sharding.replicate(context.reference, context.mesh)
    shared = SharedArrays(reference, None if _validates_apart(context) else context.validation)

    @functools.cache  # masks from data are made once for all members that share them
    def pruner_of(seed, sparsity):
        pruning_settings = dataclasses.replace(settings.pruning, sparsity=sparsity)
        member = dataclasses.replace(settings, seed=seed, pruning=pruning_settings)
        return _pruner(context, train, member)

    def values(members):
        found = []
        for member in members:
            updater = pruner_of(member.seed, member.pruning.sparsity).updater
            arrays = updater_arrays(updater, context.variables.params)
            found.append(training.make_values(member, arrays))
        return sharding.replicate(_stack(found), context.mesh)

    first = pruner_of(settings.seed, settings.pruning.sparsity)
    return CompiledRun(_program(context, settings, first), train, shared, values)


def _filled_up(members, context):
    """Members that the devices divide which share them: the last one is repeated."""
    mesh = context.execution.mesh() if context.execution.spread == "members" else None
    short = -len(members) % mesh.size if mesh else 0
    return [*members, *[members[-1]] * short]


def check_structure(members: Sequence[Settings], settings: Settings) -> None:
    """Finds members that cannot share a program.

    Raises:
      UserError: settings differ in what is not an array.
    """
    wanted = training.structure_of(settings)
    for member in members:
        if training.structure_of(member) != wanted:
            raise UserError(
                f"members of one program may differ in {', '.join(training.SWEPT)} only; "
                f"got {member} beside {settings}."
            )


def _program(context, settings, first):
    num_samples = context.splits.train.size
    steps = data.num_batches(num_samples, settings.batch_size)
    split_sums = training.make_split_sums(
        context.model,
        len(context.splits.group_names),
        context.splits.validation.size,
        mesh=context.mesh,
    )

    def trainer(values, shared):
        here = training.with_values(settings, values)
        pruner = first._replace(updater=with_arrays(first.updater, values.pruner))
        return trainer_from_settings(
            context.model, methods.build_method(shared.reference, here), pruner, here, steps
        )

    def observe(state, values, shared):
        del values
        if shared.validation is None:
            return metric_rows.epoch_numbers(state), None
        sums = split_sums(state.variables, shared.validation)
        return metric_rows.epoch_numbers(state), sums

    return training.Program(
        trainer=trainer,
        keys=lambda values: jax.random.split(jax.random.key(values.seed)),
        observe=observe,
        num_samples=num_samples,
        batch_size=settings.batch_size,
        mesh=context.mesh,
    )


def _pruner(context, train, settings):
    return pruner_from_settings(
        context.model,
        context.variables,
        train,
        settings,
        len(context.splits.group_names),
        num_samples=context.splits.train.size,
        mesh=context.mesh,
    )


def _stack(values: Sequence[PyTree]) -> PyTree:
    def stack(*leaves):
        is_key = jax.dtypes.issubdtype(leaves[0].dtype, jax.dtypes.prng_key)
        return jnp.stack(leaves) if is_key else np.stack(leaves)

    return jax.tree.map(stack, *values)


def _with_dense_logits(context, settings):
    if not methods.build_method(context.reference, settings).needs_dense_logits:
        return context.train
    size, mesh = context.splits.train.size, context.mesh
    logits = training.predict(
        context.model, context.variables, context.train, num_samples=size, mesh=mesh
    )
    logits = np.asarray(logits)
    if not data.is_streamed(context.train):
        logits = sharding.place_samples(logits, mesh)
    return context.train._replace(dense_logits=logits)


def _validates_apart(context):
    return data.is_streamed(context.validation)


def prune_and_tune(
    model: Model,
    variables: Variables,
    splits: data.Splits,
    settings: Settings,
    *,
    log: Log = lambda row: None,
    progress: training.Progress = iter,
    execution: training.Execution | None = None,
) -> TuningResult:
    """Prunes a trained network and fine-tunes it under a method. The test split is not touched.

    Args:
      model: the network.
      variables: its trained arrays.
      splits: of the data.
      settings: of the run, checked.
      log: takes one dict a step and one an epoch.
      progress: wraps the range of epochs.
      execution: as of `make_context`.

    Raises:
      DivergedError: a number that is not finite.
    """
    context = make_context(model, variables, splits, execution)
    return tune_one(make_tuner(context, settings), settings, log=log, progress=progress)


def tune_one(
    tuner: Tuner,
    settings: Settings,
    *,
    log: Log = lambda row: None,
    progress: training.Progress = iter,
) -> TuningResult:
    """A single run.

    Raises:
      DivergedError: a number that is not finite.
    """
    [found] = tuner.run([settings], [log], progress)
    if isinstance(found, training.DivergedError):
        raise found
    return found
