"""Samples that the dense network had right and the pruned one wrong, of the most harmed groups."""

import base64
from typing import NamedTuple

import numpy as np

from bap_jax.audit.labels import namer
from bap_jax.audit.page import Paragraph, Part, Picture, Pictures, Section
from bap_jax.audit.result import Audit
from bap_jax.audit.svg.figure import Table
from bap_jax.data import Records, Splits
from bap_jax.data.images import encode_thumbnail
from bap_jax.reporting.predictions import SplitPredictions

MOST, MOST_OF_A_GROUP = 24, 6
_SIDES = (64, 128)  # pixels of a thumbnail
_LEAST = 4  # a side of fewer numbers is no image's


class _Sample(NamedTuple):
    row: int
    group: str


def worst_samples(audit: Audit, predictions: SplitPredictions, splits: Splits) -> Section:
    """A section with at most 24 samples, six of a group, groups with the largest gaps first.

    Args:
      audit: of the test split.
      predictions: of the test split.
      splits: of the data.

    Returns:
      Images where the inputs have a height and a width, else a table of the samples.
    """
    samples = _choose(audit, predictions, splits)
    title = "Samples that pruning cost"
    if not samples:
        words = "There are none: the pruned network has right all that the dense one has right."
        return Section("samples", title, [Paragraph(words)])
    words = (
        f"Test samples that the dense network had right and the pruned one has wrong, at most "
        f"{MOST_OF_A_GROUP} of a group, the groups with the largest excess gaps first."
    )
    draw = _pictures if _are_images(splits.test.inputs.shape[1:]) else _table
    return Section("samples", title, [Paragraph(words), draw(samples, predictions, splits)])


def _are_images(shape):
    has_axes = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))
    return has_axes and min(shape[:2]) >= _LEAST


def _choose(audit, predictions, splits) -> list[_Sample]:
    attributes = splits.attribute_of_group()
    ids = {key: i for i, key in enumerate(zip(attributes, splits.group_names, strict=True))}
    harmed = predictions.dense_correct & ~predictions.sparse_correct
    named, chosen, taken = namer(audit), [], set()
    for group in audit.groups:
        member = (predictions.group == ids[group.attribute, group.name]).any(axis=1)
        rows = [int(row) for row in np.flatnonzero(member & harmed) if row not in taken]
        rows = rows[: min(MOST_OF_A_GROUP, MOST - len(chosen))]
        taken.update(rows)
        chosen += [_Sample(row, named(group)) for row in rows]
    return chosen


def _words(sample, predictions):
    return (
        f"sample {predictions.id[sample.row]}, label {predictions.label[sample.row]}, predicted "
        f"{predictions.sparse[sample.row]}, group {sample.group}"
    )


def _table(samples, predictions, splits) -> Part:
    rows = [
        (
            str(predictions.id[sample.row]),
            str(predictions.label[sample.row]),
            str(predictions.sparse[sample.row]),
            sample.group,
        )
        for sample in samples
    ]
    return Table("Harmed samples", ("Sample", "Label", "Predicted", "Group"), rows, frozenset({3}))


def _pictures(samples, predictions, splits) -> Part:
    inputs, rows = splits.test.inputs, np.array([sample.row for sample in samples])
    images = inputs.take(rows) if isinstance(inputs, Records) else np.asarray(inputs[rows])
    pictures = []
    for sample, image in zip(samples, images, strict=True):
        png = base64.b64encode(encode_thumbnail(_as_pixels(image), *_SIDES)).decode()
        words = _words(sample, predictions)
        pictures.append(Picture(f"data:image/png;base64,{png}", words, words.capitalize()))
    return Pictures(pictures)


def _as_pixels(image):
    """uint8; numbers of another type are stretched to the range that they have."""
    image = np.asarray(image)
    if image.dtype == np.uint8:
        return image
    image = np.nan_to_num(image.astype(float))
    low, high = image.min(), image.max()
    return (255 * (image - low) / max(high - low, 1e-12)).round().astype(np.uint8)
