"""From samples with labels and groups to checked splits and their summary.

    Source ──samples_of──► Samples ──split_samples──► PreparedData
    arrays ───────────────────┘

Runs from a config and runs from Python both end here.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bap_jax.data.source import Source
from bap_jax.data.splits import Splits, make_splits, split_indices
from bap_jax.data.summary import num_classes_of, summarize
from bap_jax.errors import UserError
from bap_jax.groups import attribute_names
from bap_jax.types import Array, Dataset, Preprocess


class Samples(NamedTuple):
    """All samples with the labels and groups that were chosen, before they are split.

    Attributes:
      data: the samples.
      group_names: one for each group.
      class_names: names of the first classes; the other classes are called by their ids.
      preprocess: how stored inputs become inputs of the network; None if they stay.
      digests, skipped, converted: see `Source`.
      attributes: names of the columns of `group_ids`; empty if they have none.
    """

    data: Dataset
    group_names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    digests: Array | None = None
    skipped: Sequence[str] = ()
    converted: int = 0
    attributes: tuple[str, ...] = ()


class PreparedData(NamedTuple):
    """Samples and their splits.

    Attributes:
      samples: all of them.
      splits: checked.
      indices: `(sample,)` ascending indices into `samples`, by name of the split.
    """

    samples: Samples
    splits: Splits
    indices: dict[str, np.ndarray]

    def summary(self) -> dict[str, Any]:
        """What is in the splits, see `data.summarize`."""
        num_classes = num_classes_of(self.splits)
        known = self.samples.class_names[:num_classes]
        return summarize(
            self.splits,
            [*known, *map(str, range(len(known), num_classes))],
            digests=self.samples.digests,
            indices=self.indices,
            skipped=self.samples.skipped,
            converted=self.samples.converted,
        )


def samples_of(
    source: Source,
    group_by: str,
    target: str = "",
    augmentation: str = "none",
    missing: str = "error",
) -> Samples:
    """Chooses labels, groups and augmentation of a source.

    Args:
      source: the data set.
      group_by: an expression, see `groups.grouping`.
      target: the attribute that is the label; by default the source's own.
      augmentation: see `Source.preprocess`.
      missing: see `Source.grouped_by`.

    Raises:
      UserError: an attribute or the augmentation is unknown, an attribute misses a value, or the
        label has only one class.
    """
    preprocess = source.preprocess(augmentation)
    samples, group_names = source.grouped_by(group_by, target, missing=missing)
    return Samples(
        samples,
        group_names,
        () if source.has_own_labels(target) else source.labelled(target)[1],
        preprocess,
        source.digests,
        source.skipped,
        source.converted,
        attribute_names(group_by, source.attributes),
    )


def split_samples(samples: Samples, num_classes: int | None, **split: Any) -> PreparedData:
    """Divides samples into splits and checks each.

    Args:
      samples: all samples.
      num_classes: number of classes; None for labels that are no class ids.
      **split: `test_indices` and the other arguments of `data.make_splits`.

    Raises:
      UserError: see `data.make_splits`.
    """
    splits = make_splits(samples.data, num_classes, samples.group_names, **split)
    splits = splits._replace(attributes=samples.attributes)
    return PreparedData(samples, splits, split_indices(samples.data.group_ids, **split))


def require_one_split(own: object, requested: object, *, if_both: str, if_neither: str) -> None:
    """Checks that a split is defined exactly once.

    Args:
      own: the split that the data set brings; None if it has none.
      requested: the split that the user asks for in its place; None for none.
      if_both: text of the error if there are both.
      if_neither: text of the error if there is neither.

    Raises:
      UserError: there are both or neither.
    """
    if own is not None and requested is not None:
        raise UserError(if_both)
    if own is None and requested is None:
        raise UserError(if_neither)
