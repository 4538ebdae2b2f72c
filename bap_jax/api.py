"""The main job from Python: a user's own network and arrays, one call."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from bap_jax import data, groups, models, pipeline, training
from bap_jax.training.settings import Settings
from bap_jax.types import Array, Dataset, UserError

_DEFAULTS = Settings()
_ALL_DEVICES = training.Execution(devices=0)


class Result(NamedTuple):
    """What a run from Python gives back.

    Attributes:
      report: what `report.json` holds, less config and times.
      pruned: the network in the form it was given: a module for NNX, a variable dict for Linen.
      tuned: selected and last iterate with their masks.
      data: samples of each group and label in each split, the smallest groups, inputs that are in
        two splits; see `data.summarize`, and `data.format_summary` for the terminal.
    """

    report: dict[str, Any]
    pruned: Any
    tuned: pipeline.TuningResult
    data: dict[str, Any]


def prune_and_tune(
    network: Any,
    inputs: Array | data.Records | data.Source,
    labels: Array | None = None,
    group_names: Sequence | Array | Mapping[str, Sequence | Array] | None = None,
    *,
    test_indices: Sequence[int] | Array | None = None,
    variables: Any = None,
    known_groups: Sequence[str] | None = None,
    group_by: str = "",
    target: str = "",
    augmentation: str = "none",
    validation_fraction: float | None = None,
    split_seed: int = 0,
    settings: Settings = _DEFAULTS,
    execution: training.Execution = _ALL_DEVICES,
    **overrides: Any,
) -> Result:
    """Prunes a trained classifier and tunes it so that no group pays more than `tolerance`.

    Args:
      network: a trained `flax.nnx.Module`, a `flax.linen.Module`, or a `bap_jax.Model`.
      inputs: `(sample, ...)` what the network takes; or `data.Records`, which are read when needed
        where they do not fit on the device; or a `data.Source`, which brings labels, groups and,
        where it has one, the test split, and whose images are normalised before the network.
      labels: `(sample,)` integer class ids.
      group_names: `(sample,)` the name of each sample's group; for several attributes a dict of
        such by attribute.
      test_indices: samples that judge and do nothing else; the network must not have been trained
        on them either. Left out for a source with a test split of its own.
      variables: for a Linen module, the dict that `module.init` returns, trained.
      known_groups: all group names there may be, of a single attribute; by default those that
        occur.
      group_by: of several attributes: names joined by `*`, which constrains every combination that
        occurs (the default, of all), or by `+`, each attribute's groups on their own. Of a source
        it must be given.
      target: of a source, the attribute that is the label; by default its own.
      augmentation: of a source's images, see `data.image_preprocess`.
      validation_fraction: share of the other samples, on which the iterate is chosen; by default
        .15. Left out for a source with a validation split of its own.
      split_seed: of that draw.
      settings: everything else about the run.
      execution: how programs run on this machine.
      **overrides: fields of `settings` by name; `sparsity` and `dual_learning_rate` reach
        `settings.pruning.sparsity` and `settings.dual.learning_rate`.

    Raises:
      UserError: a mistake in any of these, before anything is trained.
    """
    settings = override(settings, overrides)
    training.check_settings(settings, tuple(training.METHODS))
    model, variables = models.adapt(network, variables)
    model = models.in_precision(model, settings.precision)
    if isinstance(inputs, data.Source):
        _check_source(labels, group_names, group_by, inputs.skipped)
        preprocess = inputs.preprocess(augmentation)
        model = models.with_preprocessing(model, preprocess) if preprocess else model
        samples, names = inputs.grouped_by(group_by, target)
    else:
        if target or augmentation != "none":
            raise UserError("target and augmentation are for a data.Source; arrays have neither.")
        samples, names = _from_arrays(inputs, labels, group_names, known_groups, group_by)
    split = _split(inputs, test_indices, validation_fraction)
    num_classes = _num_classes(model, variables, samples.inputs)
    splits = data.make_splits(samples, num_classes, names, **split, seed=split_seed)
    indices = data.split_indices(samples.group_ids, **split, seed=split_seed)
    summary = _summary(splits, inputs, target, indices)
    splits = pipeline.read_what_fits(splits, execution)
    context = pipeline.make_context(model, variables, splits, execution)
    tuned = pipeline.tune_one(pipeline.make_tuner(context, settings), settings)
    report = pipeline.evaluate_final(context, tuned, settings)
    return Result(report, model.export(tuned.selected.variables), tuned, summary)


def _summary(splits, inputs, target, indices):
    class_names = list(map(str, range(splits.num_classes)))
    if not isinstance(inputs, data.Source):
        return data.summarize(splits, class_names)
    told = inputs.labelled(target)[1]
    class_names[: len(told)] = told
    return data.summarize(
        splits,
        class_names,
        digests=inputs.digests,
        indices=indices,
        skipped=inputs.skipped,
        converted=inputs.converted,
    )


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
    whole = {name: value for name, value in overrides.items() if name in known}
    settings = dataclasses.replace(settings, **whole)
    for name in overrides.keys() & nested.keys():
        section, field = nested[name]
        value = dataclasses.replace(getattr(settings, section), **{field: overrides[name]})
        settings = dataclasses.replace(settings, **{section: value})
    return settings


def _split(inputs, test_indices, validation_fraction):
    """Arguments of `data.make_splits` that draw the splits: the source's own, or the caller's."""
    own_test = own_validation = None
    if isinstance(inputs, data.Source):
        own_test, own_validation = inputs.test_indices, inputs.validation_indices
    if test_indices is not None and own_test is not None:
        raise UserError(
            "the source brings its own test split: leave test_indices out, or hand over "
            "source._replace(test_indices=None) to judge by other samples."
        )
    if validation_fraction and own_validation is not None:
        raise UserError(
            "the source brings its own validation split: leave validation_fraction out, or hand "
            "over source._replace(validation_indices=None) to draw another."
        )
    test_indices = own_test if test_indices is None else test_indices
    if test_indices is None:
        raise UserError("test_indices are missing; name the samples that are to judge.")
    split = {"test_indices": np.asarray(test_indices), "validation_indices": own_validation}
    if validation_fraction is not None:
        split["validation_fraction"] = validation_fraction
    return split


def _check_source(labels, group_names, group_by, skipped):
    if labels is not None or group_names is not None:
        raise UserError("a source brings labels and groups; choose by target= and group_by=.")
    if not group_by:
        raise UserError("say by which attributes of the source to group: group_by='race*gender'.")
    if skipped:
        logging.warning("%d samples were left out, the first: %s", len(skipped), skipped[0])


def _from_arrays(inputs, labels, group_names, known_groups, group_by):
    if labels is None or group_names is None:
        raise UserError("labels and group_names are missing; only a data.Source brings them.")
    inputs = inputs if isinstance(inputs, data.Records) else np.asarray(inputs)
    grouping = _grouping(group_names, known_groups, group_by)
    return Dataset(inputs, np.asarray(labels), grouping.ids), grouping.names


def _grouping(group_names, known_groups, group_by):
    if not isinstance(group_names, Mapping):
        if group_by:
            raise UserError(
                "group_by is for a dict of group_names; a single list has one attribute."
            )
        return groups.encode(group_names, known_groups)
    if known_groups is not None:
        raise UserError("known_groups is for a single attribute; leave it out with several.")
    if not group_names:
        raise UserError("group_names is an empty dict; name at least one attribute.")
    attributes = {name: groups.encode(values) for name, values in group_names.items()}
    return groups.grouping(attributes, group_by or "*".join(attributes))


def _num_classes(model, variables, inputs):
    if not inputs.shape or len(inputs) == 0:
        raise UserError("inputs must hold at least one sample.")

    first = inputs.take([0]) if isinstance(inputs, data.Records) else inputs[:1]

    def logits(variables):
        return model.apply(variables, first, train=False, key=None)[0]

    try:
        shape = jax.eval_shape(logits, variables).shape
    except Exception as error:  # whatever a user's own network raises
        raise UserError(
            f"the network cannot be applied to inputs of shape {(1, *inputs.shape[1:])} and type "
            f"{inputs.dtype}: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    if len(shape) != 2:
        raise UserError(f"the network must return logits of shape (batch, class); got {shape}.")
    return shape[1]
