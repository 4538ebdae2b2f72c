"""From the arguments of `prune_and_tune` to samples and the arguments of their splits.

    inputs, labels, group names ─► checks ─► Samples ─► arguments of `split_samples`

A data set that brings its own labels, groups and splits is a `data.Source`.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from bap_jax import data, groups
from bap_jax._tables.encoding import encoded
from bap_jax.data.augment import check_augment, with_augment
from bap_jax.data.checks import check_inputs
from bap_jax.data.input_arrays import describe
from bap_jax.data.inputs import as_inputs, check_one_length, first_sample, num_samples
from bap_jax.data.labels import as_labels, check_label_lengths
from bap_jax.data.prepared import Samples, require_one_split, samples_of
from bap_jax.data.source import skipped_text
from bap_jax.errors import UserError, first_of
from bap_jax.metrics import Criterion
from bap_jax.training.criterion_checks import LogitsShape, check_logits, logits_shape
from bap_jax.types import Dataset

_SHOWN = 10  # groups in one warning


def read_samples(
    inputs, labels, group_names, target, augmentation, *, group_by, missing, known_groups
) -> Samples:
    """Samples with labels and groups; arguments as in `prune_and_tune`."""
    if isinstance(inputs, data.Source):
        _check_source_arguments(inputs, labels, group_names, group_by, known_groups)
        return samples_of(inputs, group_by, target, augmentation, missing)
    _check_array_arguments(labels, group_names, target, augmentation)
    return _samples_from_arrays(inputs, labels, group_names, known_groups, group_by, missing)


def _check_array_arguments(labels, group_names, target, augmentation):
    """Raises an error for arguments that arrays cannot have, or that are missing."""
    if target or augmentation != "none":
        raise UserError("target and augmentation are for a data.Source; arrays have neither.")
    if labels is None or group_names is None:
        raise UserError("labels and group_names are missing; only a data.Source brings them.")


def _check_source_arguments(source, labels, group_names, group_by, known_groups):
    """Raises an error for arguments that a source brings itself; logs samples that it left out."""
    if labels is not None or group_names is not None:
        raise UserError("a source brings labels and groups; choose them by target= and group_by=.")
    if known_groups is not None:
        raise UserError("known_groups is for group_names; a source knows its groups. Leave it out.")
    if not group_by:
        raise UserError("name the attributes of the source to group by: group_by='race*gender'.")
    if source.skipped:
        logging.warning("%s", skipped_text(source))


def _samples_from_arrays(inputs, labels, group_names, known_groups, group_by, missing):
    """The samples of arrays, a pytree of arrays or `data.Records`, with their groups."""
    grouping, attributes = _grouping(group_names, known_groups, group_by, missing)
    samples = Dataset(as_inputs(inputs), as_labels(labels), grouping.ids)
    # The network is tried before the samples are checked; other lengths would make it fail.
    if num_samples(samples.inputs):
        lengths = check_label_lengths(samples.labels)
        check_one_length(samples.inputs, **lengths, groups=len(grouping.ids))
    return Samples(samples, grouping.names, attributes=attributes)


def _grouping(group_names, known_groups, group_by, missing):
    """The grouping, and the names of its columns."""
    group_names = _by_column(group_names)
    if not isinstance(group_names, Mapping):
        if group_by:
            raise UserError(
                "group_by is for a dict of group_names; a single array has only one attribute."
            )
        return _without_empty(groups.encode(group_names, known_groups, missing=missing)), ()
    if known_groups is not None:
        raise UserError("known_groups is for a single attribute; leave it out with several.")
    if not group_names:
        raise UserError("group_names is an empty dict; name at least one attribute.")
    attributes = _Encoded(group_names, missing)
    expression = group_by or "*".join(group_names)
    return (
        groups.grouping(attributes, expression),
        groups.attribute_names(expression, attributes),
    )


def _without_empty(grouping):
    """The groups that some sample has; a warning names the others, which are left out."""
    found = groups.occurring(grouping)
    left_out = [repr(name) for name in grouping.names if name not in found.names]
    if left_out:
        numbered = ", ".join(f"{i} is {name!r}" for i, name in enumerate(found.names[:_SHOWN]))
        more = ", …" if len(found.names) > _SHOWN else ""
        warnings.warn(
            f"known_groups: no sample at all is in group {first_of(left_out, _SHOWN)}; left out. "
            f"Groups are numbered without: {numbered}{more}.",
            stacklevel=2,
        )
    return found


def _by_column(group_names):
    """The columns of a table by name, of pandas, pyarrow or polars; anything else as it is."""
    for attribute in ("column_names", "columns"):
        names = getattr(group_names, attribute, None)
        if names is not None and hasattr(group_names, "__getitem__"):
            return {str(name): group_names[name] for name in names}
    return group_names


class _Encoded(Mapping[str, groups.Grouping]):
    """Columns of names as groupings; one that nobody groups by is not looked at."""

    def __init__(self, columns: Mapping[str, Any], missing: str):
        self._columns, self._missing = columns, missing

    def __getitem__(self, name: str) -> groups.Grouping:
        what = f"group_names[{name!r}]"
        return groups.Grouping(*encoded(self._columns[name], missing=self._missing, what=what))

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self):
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def augmented_samples(samples, augment, augmentation, batch_size):
    """The samples with a user's own augmentation before what is done to them already."""
    if augmentation != "none":
        raise UserError(
            f"there are two augmentations, augmentation={augmentation!r} and augment: leave one of "
            "them out; augment takes images as they are stored."
        )
    check_augment(augment, samples.data.inputs, batch_size)
    return samples._replace(preprocess=with_augment(augment, samples.preprocess))


def split_arguments(inputs, test_indices, validation_fraction):
    """Arguments of `data.make_splits`: the source's own splits, or what the caller asks for."""
    own_test = own_validation = None
    if isinstance(inputs, data.Source):
        own_test, own_validation = inputs.test_indices, inputs.validation_indices
    require_one_split(
        own_test,
        test_indices,
        if_both="the source brings its own test split: leave test_indices out, or pass "
        "source._replace(test_indices=None) to test on other samples.",
        if_neither="test_indices are missing; list the samples for the final evaluation.",
    )
    if validation_fraction and own_validation is not None:
        raise UserError(
            "the source brings its own validation split: leave validation_fraction out, or pass "
            "source._replace(validation_indices=None) to draw another."
        )
    test_indices = own_test if test_indices is None else test_indices
    split = {"test_indices": np.asarray(test_indices), "validation_indices": own_validation}
    if validation_fraction is not None:
        split["validation_fraction"] = validation_fraction
    return split


def logits_of_first(model, variables, inputs) -> LogitsShape:
    """Shape and type of the network's logits on the first sample."""
    if num_samples(inputs) == 0:
        raise UserError("inputs must hold at least one sample.")

    first = first_sample(inputs)
    try:
        return logits_shape(model, variables, first)
    except UserError:
        raise
    except Exception as error:  # a user's network may raise anything
        check_inputs(first)  # text, or numbers as Python objects: no network takes them
        raise UserError(
            f"the network cannot be applied to inputs of {describe(first)}: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error


def num_classes(samples, criterion: Criterion, logits: LogitsShape) -> int | None:
    """Number of classes; None where labels are no class ids."""
    check_logits(criterion, logits)
    if criterion.has_classes:
        return logits.shape[1]
    return len(samples.class_names) or None
