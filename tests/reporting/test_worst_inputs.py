"""Harmed samples whose inputs are pytrees: the one image is drawn, everything else is listed."""

import numpy as np
import pytest

from bap_jax import data
from bap_jax.audit.page import Pictures
from bap_jax.audit.svg.figure import Table
from bap_jax.reporting.verdicts import audit_of_counts, counts_of
from bap_jax.reporting.worst_samples import worst_samples
from tests.reporting.fakes import RUN_GROUPS, judged_report, splits_of


def part_of(make_inputs):
    """The part of the section, where the pixels of every photo are the sample's row."""
    report, predictions = judged_report(flips=0.3)
    splits = splits_of(predictions)
    count = splits.test.size
    photo = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 5, 5, 1))
    inputs = make_inputs(photo, np.zeros((count, 6), np.int32), np.ones((count, 6, 6), bool))
    splits = splits._replace(test=splits.test._replace(inputs=inputs))
    counts = counts_of(predictions["test"], RUN_GROUPS, splits.attribute_of_group())
    audit = audit_of_counts(counts, report["tolerance"])
    return worst_samples(audit, predictions["test"], splits).parts[1]


def read_when_needed(photo, tokens, mask):
    return data.Records.of_samples(lambda i: {"photo": photo[i], "n": tokens[i]}, len(photo))


@pytest.mark.parametrize(
    ("make_inputs", "kind"),
    [
        (lambda photo, tokens, mask: {"tokens": tokens, "mask": mask}, Table),
        (lambda photo, tokens, mask: {"photo": photo, "tokens": tokens, "mask": mask}, Pictures),
        (lambda photo, tokens, mask: (tokens, photo), Pictures),
        (lambda photo, tokens, mask: (photo, photo), Table),
        (lambda photo, tokens, mask: mask, Pictures),
        (lambda photo, tokens, mask: tokens, Table),
        (lambda photo, tokens, mask: tokens[:, 0], Table),
        (read_when_needed, Pictures),
    ],
)
def test_inputs_of_any_kind(make_inputs, kind):
    part = part_of(make_inputs)
    assert isinstance(part, kind)
    assert len(part.items if kind is Pictures else part.rows) == 18


def test_the_image_is_that_of_the_sample():
    alone = part_of(lambda photo, tokens, mask: photo)
    among = part_of(lambda photo, tokens, mask: {"photo": photo, "tokens": tokens})
    assert [item.source for item in among.items] == [item.source for item in alone.items]
    assert len({item.source for item in alone.items}) > 1
