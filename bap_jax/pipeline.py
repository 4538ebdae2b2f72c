"""The phases that a run from a config and a run from Python share.

train_dense ─► prune_and_tune ─► judge
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import audit, data, foresight, lagrangian, metric_rows, pruning, training
from bap_jax.constraints import unconstrained
from bap_jax.models import Model, channel_groups, kernel_order
from bap_jax.training import methods
from bap_jax.training.settings import OptimizerSettings, Settings
from bap_jax.types import Dataset, PyTree, Variables

Log = Callable[[dict[str, Any]], None]
Progress = Callable[[Iterable], Iterable]


class Iterate(NamedTuple):
    """A network at the end of an epoch.

    Attributes:
      epoch: which.
      variables: its arrays.
      masks: which weights are kept.
      score: on the validation part.
    """

    epoch: int
    variables: Variables
    masks: PyTree
    score: audit.Score


class Tuned(NamedTuple):
    """The two iterates that are reported.

    Attributes:
      selected: the iterate chosen on the validation part.
      last: the iterate after the last epoch.
      feasibility: what `audit.feasibility` says; None for methods that constrain nothing.
      unconstrained: groups too small to constrain, with their training samples.
    """

    selected: Iterate
    last: Iterate
    feasibility: dict[str, Any] | None = None
    unconstrained: dict[str, int] | None = None


def train_dense(
    model: Model,
    variables: Variables,
    train: Dataset,
    optimizer: OptimizerSettings,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Progress = iter,
) -> Variables:
    """Trains a network with SGD on the training part; nothing is pruned or constrained."""
    steps = data.num_batches(train.size, batch_size)
    primal = training.primal_optimizer(optimizer, epochs, steps)
    scheme = lagrangian.dual_primal(primal, training.dual_formulation(Settings().dual))
    trainer = training.make_trainer(model, scheme, unconstrained(), training.no_pruning())
    order_key, state_key = jax.random.split(jax.random.key(seed))
    for end in training.run_epochs(
        trainer,
        trainer.init(variables, state_key),
        data.on_device(train),
        num_epochs=epochs,
        batch_size=batch_size,
        key=order_key,
        progress=progress,
    ):
        last = end
    return last.state.variables


def prunable_leaves(model: Model, variables: Variables, inputs, settings: Settings) -> PyTree:
    """A bool for each parameter leaf, as `settings.pruning.prunable` chooses.

    Raises:
      UserError: a path is unknown, or nothing is left to prune.
    """
    paths = pruning.leaf_paths(variables.params)
    uses = kernel_order(model, variables, inputs)
    kernels = [pruning.Kernel(paths[use.leaf], use.convolution) for use in uses]
    return pruning.prunable_leaves(settings.pruning.prunable, variables.params, kernels)


def make_trainer(
    model: Model,
    method: training.Method,
    pruner: training.Pruner,
    settings: Settings,
    steps_per_epoch: int,
) -> training.Trainer:
    """The trainer of one run."""
    # Switching has no formulation that could know of the overall term.
    switching = settings.scheme == "switching"
    options = {"overall_term": settings.constraint.overall_term} if switching else {}
    scheme = lagrangian.build_scheme(
        settings.scheme,
        training.primal_optimizer(settings.optimizer, settings.epochs, steps_per_epoch),
        method.formulation,
        weight_limit=settings.dual.weight_limit,
        **options,
    )
    first = settings.constraint.first_epoch
    return training.make_trainer(
        model,
        scheme,
        method.constraint,
        pruner,
        objective=method.objective,
        constrained_from=None if first < 0 else first,
    )


def make_pruner(
    model: Model, variables: Variables, train: Dataset, settings: Settings, num_groups: int
) -> training.Pruner:
    """The pruner of one run; some algorithms make their masks here, from the dense network.

    Raises:
      UserError: nothing is left to prune, or the algorithm cannot prune this network.
    """
    prunable = prunable_leaves(model, variables, train.inputs[:1], settings)
    chosen, made = settings.pruning, {}
    if chosen.algorithm in training.FROM_DATA:
        made["masks"] = foresight.make_masks(
            model, variables, train, prunable, settings, num_groups
        )
    if chosen.algorithm == "channels":
        groups = channel_groups(model)
        made["groups"] = training.prunable_groups(groups, variables.params, prunable)
    return training.build_pruner(chosen, prunable, seed=settings.seed, **made)


def prune_and_tune(
    model: Model,
    variables: Variables,
    parts: data.Parts,
    settings: Settings,
    *,
    log: Log = lambda row: None,
    progress: Progress = iter,
) -> Tuned:
    """Prunes a trained network and fine-tunes it under a method. The test part is not touched.

    Args:
      model: the network.
      variables: its trained arrays.
      parts: of the data.
      settings: of the run, checked.
      log: takes one dict a step and one an epoch.
      progress: wraps the range of epochs.
    """
    train, validation = data.on_device(parts.train), data.on_device(parts.validation)
    evaluate = training.make_evaluator(model, len(parts.group_names))
    reference = training.dense_reference(evaluate(variables, train))
    dense_validation = evaluate(variables, validation)
    method = methods.build(reference, settings)
    if method.needs_dense_logits:
        train = train._replace(dense_logits=training.predict(model, variables, train))

    pruner = make_pruner(model, variables, train, settings, len(parts.group_names))
    steps = data.num_batches(train.size, settings.batch_size)
    trainer = make_trainer(model, method, pruner, settings, steps)
    order_key, state_key = jax.random.split(jax.random.key(settings.seed))
    frequency = np.asarray(reference.frequency)  # on the host, where the rows are made
    history, best = audit.History(), None

    def on_step(step, epoch, metrics):
        log(metric_rows.step_row(step, epoch, metrics, frequency, method))
        history.add(epoch, *map(metric_rows.flat, (metrics.multipliers, metrics.violation)))

    for epoch, state in training.run_epochs(
        trainer,
        trainer.init(variables, state_key),
        train,
        num_epochs=settings.epochs,
        batch_size=settings.batch_size,
        key=order_key,
        constraint_names=method.constraint.names(parts.group_names),
        group_names=parts.group_names,
        on_step=on_step,
        progress=progress,
    ):
        score = audit.score(dense_validation, evaluate(state.variables, validation))
        log(metric_rows.epoch_row(epoch, state, score))
        final = epoch >= settings.pruning.epochs
        if final and audit.better(score, best and best.score, settings.tolerance):
            best = _snapshot(epoch, state, score)
    last = _snapshot(epoch, state, score)
    names = parts.group_names
    small = _unconstrained(method, reference, names, settings)
    return Tuned(best, last, _feasibility(method, history, names), small)


def _feasibility(method, history, group_names):
    if not method.is_constrained:
        return None
    return audit.feasibility(history, method.constraint.names(group_names))


def _unconstrained(method, reference, group_names, settings):
    if not method.constraint.size or method.watches_all:
        return None
    counts = np.asarray(reference.count).astype(int).tolist()
    least = settings.constraint.min_group_size
    return {name: n for name, n in zip(group_names, counts, strict=True) if n < least}


def _snapshot(epoch, state, score):
    return Iterate(epoch, *jax.tree.map(jnp.copy, (state.variables, state.masks)), score)


def judge(
    model: Model,
    dense: Variables,
    tuned: Tuned,
    parts: data.Parts,
    settings: Settings,
    names: Sequence[str] = data.PARTS,
) -> dict[str, Any]:
    """Evaluates both iterates on the parts called `names`. The only place that reads the test part.

    Returns:
      The report without what only its caller knows (config, seconds).
    """
    evaluate = training.make_evaluator(model, len(parts.group_names))
    splits = {"selected": {}, "last": {}}
    for name in names:
        part = data.on_device(getattr(parts, name))
        dense_means = evaluate(dense, part)
        for which, found in splits.items():
            means = evaluate(getattr(tuned, which).variables, part)
            found[name] = audit.split_report(dense_means, means, parts.group_names)
    return {
        "versions": audit.versions(),
        "method": settings.method,
        "seed": settings.seed,
        "tolerance": settings.tolerance,
        "feasibility": tuned.feasibility,
        "unconstrained_groups": tuned.unconstrained,
        **_iterate_report(tuned.selected, settings, splits["selected"]),
        "last": _iterate_report(tuned.last, settings, splits["last"]),
    }


def _iterate_report(iterate, settings, splits):
    found = pruning.sparsity(iterate.variables.params, iterate.masks)
    return {
        "epoch": iterate.epoch,
        "params_sha256": audit.tree_sha256(iterate.variables.params),
        "sparsity": {
            "target": settings.pruning.sparsity,
            **found._asdict(),
            "layers": pruning.leaf_sparsity(iterate.masks),
        },
        "splits": splits,
    }
