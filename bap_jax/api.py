"""Prunes and tunes a user's network on a user's data in one call from Python."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from bap_jax import data, models, pipeline, training
from bap_jax._watching import check_watchers
from bap_jax.compilation import with_usual_promotion
from bap_jax.data.prepared import split_samples
from bap_jax.errors import UserError
from bap_jax.metric_writers import MetricWriter
from bap_jax.metrics.registry import CriterionLike, find_criterion
from bap_jax.models.flags import Apply
from bap_jax.pipeline.checks import check_run
from bap_jax.reporting.predictions import SplitPredictions
from bap_jax.reporting.table import format_report
from bap_jax.training.criterion_checks import check_criterion
from bap_jax.training.methods import method_name
from bap_jax.training.optimizer_registry import OptimizerLike, is_transformation
from bap_jax.training.settings import DualSettings, OptimizerSettings, Settings
from bap_jax.training.settings_checks import check_sections
from bap_jax.types import Array, PyTree
from bap_jax.user_samples import (
    augmented_samples,
    logits_of_first,
    num_classes,
    read_samples,
    split_arguments,
)

__all__ = ["Result", "override", "prune_and_tune"]

_DEFAULTS = Settings()
_ALL_DEVICES = training.Execution(devices=0)


class Result(NamedTuple):
    """What `prune_and_tune` returns; printed, it is what a run prints, the verdict first.

    Attributes:
      report: the content of `report.json`, without config and times.
      pruned: the network in the form in which it was passed: a module for NNX, a dict of variables
        for Linen.
      tuned: the pruned network and the last iterate with their masks.
      data: a summary of the splits, see `data.summarize`; `data.format_summary` makes a text of it.
      predictions: of the dense and the pruned network for every sample, by name of the split.
    """

    report: dict[str, Any]
    pruned: Any
    tuned: pipeline.TuningResult
    data: dict[str, Any]
    predictions: dict[str, SplitPredictions]

    def __str__(self) -> str:
        return format_report(self.report)


@with_usual_promotion
def prune_and_tune(
    network: Any,
    inputs: PyTree | data.Records | data.Source,
    labels: Array | None = None,
    group_names: Sequence | Array | Mapping[str, Sequence | Array] | None = None,
    *,
    test_indices: Sequence[int] | Array | None = None,
    variables: Any = None,
    apply: Apply | None = None,
    known_groups: Sequence[str] | None = None,
    group_by: str = "",
    missing: str = "error",
    target: str = "",
    augmentation: str = "none",
    augment: data.Augment | None = None,
    loss: CriterionLike = None,
    correct: CriterionLike = None,
    validation_fraction: float | None = None,
    split_seed: int = 0,
    optimizer: OptimizerSettings | OptimizerLike | None = None,
    dual_optimizer: OptimizerLike | None = None,
    settings: Settings = _DEFAULTS,
    execution: training.Execution = _ALL_DEVICES,
    progress: bool | None = None,
    on_epoch: Callable[[dict[str, Any]], object] | None = None,
    log: MetricWriter | Sequence[MetricWriter] | None = None,
    **overrides: Any,
) -> Result:
    """Prunes a trained classifier and tunes it so that no group loses more than `tolerance`.

    The bound is on how much more accuracy a group loses than all samples together, on training
    data.

    Args:
      network: a trained `flax.nnx.Module`, a `flax.linen.Module`, or a `bap_jax.Model`.
      inputs: `(sample, ...)` inputs of the network, an array or a pytree of arrays such as
        `{"tokens": …, "mask": …}`; or `data.Records`, which are read when needed if they do not fit
        on the device; or a `data.Source`, which brings labels, groups and perhaps a test split, and
        whose images are normalised before they enter the network.
      labels: `(sample,)` integer class ids; others with `loss`.
      group_names: `(sample,)` the name of each sample's group; for several attributes a dict of
        such arrays by name of the attribute.
      test_indices: `(test sample,)` samples that are used for the final evaluation only; the
        network must not have been trained on them either. Leave it out for a source that has a
        test split.
      variables: for a Linen module, the trained dict of variables, as `module.init` returns it.
      apply: `(module, inputs, train) -> logits`, for a module that is called in another way than
        with its inputs, and perhaps a flag such as `train` or `deterministic`.
      known_groups: all possible group names of a single attribute, in the order of their numbers;
        by default those that occur. Those that no sample has are left out, with a warning.
      group_by: how to group by several attributes: names joined by `*` constrain every combination
        that occurs (by default of all attributes), names joined by `+` constrain each attribute's
        groups on their own. A source needs it.
      missing: `error` refuses samples without a group name (None, NaN, NULL, …), `group` makes them
        a group called `missing`. Labels must not be missing.
      target: of a source, the attribute that is the label; by default its own target.
      augmentation: of a source's images, see `data.image_preprocess`.
      augment: `(key, inputs) -> inputs` changes a batch at random, inside the training step and not
        in evaluation; written with JAX, it keeps structure, shapes and types. Of a source it takes
        the inputs as they are stored.
      loss: what is minimised, `(logits, labels) -> (batch,)`, or a name of `metrics.CRITERIA`; by
        default the cross-entropy of class ids. With another one logits and labels `(sample, ...)`
        may have any shape, and labels may be a dict of arrays.
      correct: what counts as right, `(logits, labels) -> (batch,)` bool, or such a name; by default
        what goes with `loss`, and with a function that the label has the largest logit.
      validation_fraction: share of the other samples that is drawn for selecting the iterate; by
        default .15. Leave it out for a source that has a validation split.
      split_seed: seed of that draw.
      optimizer: of the weights: an optax transformation such as `optax.adamw(1e-3)`, a name such as
        `"adamw"`, a function, or `training.OptimizerSettings`; by default as `settings` says. It
        sees the weights as a nested dict.
      dual_optimizer: of the multipliers, an optax transformation, a name or a function. It is given
        the negative violations, because optax descends.
      settings: everything else about the run.
      execution: how the run uses this machine.
      progress: whether to show a line with epoch, sparsity, accuracy, largest gap and Σλ; by
        default in a terminal or a notebook.
      on_epoch: called with the row of every epoch, a dict as in `metrics.jsonl`. What it raises
        ends the run, after the writers have been closed.
      log: writers of the rows of steps and epochs, see `metric_writers`; closed at the end.
      **overrides: fields of `settings` by name; `sparsity` and `dual_learning_rate` set
        `settings.pruning.sparsity` and `settings.dual.learning_rate`. The rule `auto` has no such
        rate, so `dual_learning_rate`, like `dual_optimizer`, chooses `ascent` in its place.

    Returns:
      The report, the pruned network, the iterates, a summary of the data and all predictions.

    Raises:
      UserError: there is a mistake in any of these; raised before anything is trained.
    """
    settings = with_optimizers(override(settings, overrides), optimizer, dual_optimizer)
    training.check_settings(settings)
    if not isinstance(execution, training.Execution):
        raise UserError(f"execution must be a training.Execution(...); got {execution!r}.")
    criterion = find_criterion(loss, correct)
    watchers = check_watchers(progress, on_epoch, log)
    model, variables = models.adapt(network, variables, apply)
    pipeline.check_optimizers(settings, variables.params)
    model = models.in_precision(model, settings.precision)
    samples = read_samples(
        *(inputs, labels, group_names, target, augmentation),
        group_by=group_by,
        missing=missing,
        known_groups=known_groups,
    )
    if augment is not None:
        samples = augmented_samples(samples, augment, augmentation, settings.batch_size)
    if samples.preprocess is not None:
        model = models.with_preprocessing(model, samples.preprocess)
    logits = logits_of_first(model, variables, samples.data.inputs)
    count = num_classes(samples, criterion, logits)
    split = split_arguments(inputs, test_indices, validation_fraction)
    prepared = split_samples(samples, count, **split, seed=split_seed)
    check_criterion(criterion, logits, prepared.splits, settings)
    check_run(model, variables, prepared.splits, settings)
    context = _make_context(model, variables, prepared.splits, execution, criterion)
    tuned, evaluated = _tune_and_evaluate(context, settings, watchers)
    pruned = model.export(tuned.pruned.variables)
    return Result(evaluated.report, pruned, tuned, prepared.summary(), evaluated.predictions)


def _make_context(model, variables, splits, execution, criterion):
    """Dense network and data, laid out on the devices."""
    splits = pipeline.read_what_fits(splits, execution)
    return pipeline.make_context(model, variables, splits, execution, criterion)


def _tune_and_evaluate(context, settings, watchers):
    """The tuning result, and its one evaluation on the test split."""
    tuner = pipeline.make_tuner(context, settings)
    with watchers.following(method_name(settings.method), settings.epochs) as log:
        tuned = pipeline.tune_one(tuner, settings, log=log)
    return tuned, pipeline.evaluate_with_predictions(context, tuned, settings)


def with_optimizers(
    settings: Settings,
    optimizer: OptimizerSettings | OptimizerLike | None,
    dual_optimizer: OptimizerLike | None,
) -> Settings:
    """Settings with other optimisers; arguments as in `prune_and_tune`.

    A transformation brings its own step size, schedule and clipping, and replaces the section.
    """
    if isinstance(optimizer, OptimizerSettings):
        settings = dataclasses.replace(settings, optimizer=optimizer)
    elif optimizer is not None:
        own = is_transformation(optimizer)
        base = OptimizerSettings() if own else settings.optimizer
        section = dataclasses.replace(base, name=optimizer)
        settings = dataclasses.replace(settings, optimizer=section)
    if dual_optimizer is None:
        return settings
    changes: dict[str, Any] = {"optimizer": dual_optimizer}
    if is_transformation(dual_optimizer):
        usual = DualSettings()
        names = ("learning_rate", "momentum", "dampening")
        changes |= {name: getattr(usual, name) for name in names}
    dual = _with_a_rate(dataclasses.replace(settings.dual, **changes))
    return dataclasses.replace(settings, dual=dual)


def _with_a_rate(dual: DualSettings) -> DualSettings:
    """The same, by a rule that has a rate and an optimiser."""
    return dataclasses.replace(dual, rule="ascent") if dual.rule == "auto" else dual


def override(settings: Settings, overrides: dict[str, Any]) -> Settings:
    """Settings with some fields replaced.

    Raises:
      UserError: a name is unknown; the message lists the known ones.
    """
    nested = {"sparsity": ("pruning", "sparsity"), "dual_learning_rate": ("dual", "learning_rate")}
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in overrides:
        if name not in (*known, *nested):
            raise UserError(
                f"unknown argument {name!r}; known settings: {', '.join((*known, *nested))}."
            )
    check_sections(settings)
    whole = {name: value for name, value in overrides.items() if name in known}
    settings = dataclasses.replace(settings, **whole)
    check_sections(settings)
    for name in overrides.keys() & nested.keys():
        section, field = nested[name]
        value = dataclasses.replace(getattr(settings, section), **{field: overrides[name]})
        value = _with_a_rate(value) if isinstance(value, DualSettings) else value
        settings = dataclasses.replace(settings, **{section: value})
    return settings
