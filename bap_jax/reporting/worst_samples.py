"""Samples that the dense network had right and the pruned one wrong, of the most harmed groups."""

import base64
from typing import NamedTuple

import jax
import numpy as np

from bap_jax.audit.labels import namer
from bap_jax.audit.page import Paragraph, Part, Picture, Pictures, Section
from bap_jax.audit.result import Audit
from bap_jax.audit.svg.figure import Table
from bap_jax.data import Splits
from bap_jax.data.images import encode_thumbnail
from bap_jax.data.inputs import rows_of, sample_of
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
    images = _images(splits.test.inputs, [sample.row for sample in samples])
    if images is None:
        return Section("samples", title, [Paragraph(words), _table(samples, predictions)])
    return Section("samples", title, [Paragraph(words), _pictures(samples, predictions, images)])


def _images(inputs, rows):
    """The images of some samples; None if inputs hold none, or in a pytree several."""
    sample = sample_of(inputs)
    if isinstance(sample, jax.ShapeDtypeStruct):
        return rows_of(inputs, np.array(rows)) if _is_image(sample) else None
    # In a pytree an array with two axes is rather a mask, or features of words.
    leaves = jax.tree.leaves(sample)
    places = [i for i, leaf in enumerate(leaves) if len(leaf.shape) == 3 and _is_image(leaf)]
    if len(places) != 1:
        return None
    return jax.tree.leaves(rows_of(inputs, np.array(rows)))[places[0]]


def _is_image(sample):
    shape = sample.shape
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


def _known_of(sample, predictions) -> dict[str, str]:
    """What is known of a sample, by its column: without classes, no prediction."""
    columns = {
        "Sample": predictions.id,
        "Label": predictions.label,
        "Predicted": predictions.sparse,
    }
    known = {
        name: str(column[sample.row])
        for name, column in columns.items()
        if column is not None and column.ndim == 1
    }
    return known | {"Group": sample.group}


def _words(sample, predictions):
    known = _known_of(sample, predictions)
    return ", ".join(f"{name.lower()} {text}" for name, text in known.items())


def _table(samples, predictions) -> Part:
    rows = [_known_of(sample, predictions) for sample in samples]
    columns = tuple(rows[0])
    cells = [tuple(row.values()) for row in rows]
    return Table("Harmed samples", columns, cells, frozenset({len(columns) - 1}))


def _pictures(samples, predictions, images) -> Part:
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
