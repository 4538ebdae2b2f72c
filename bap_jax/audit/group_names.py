"""A column of group names, of any type, to ids; samples without a name form a group of their own.

Names are compared as text, so 1 and "1" are one group. What is missing says
`bap_jax._tables.names`, and blank text is missing, too; texts such as "nan" are names.
"""

import numpy as np

from bap_jax._tables.names import distinct_values, name_for_missing, texts_of
from bap_jax.errors import UserError
from bap_jax.groups import Grouping


def encode_names(values, what: str = "groups") -> tuple[Grouping, int]:
    """Ids of the groups, sorted by name, and how many samples have none.

    Args:
      values: `(sample,)` text, bytes, numbers or bools, with or without missing ones.
      what: name of the column in errors.

    Returns:
      A grouping of one column, `(sample, 1)` ids; and the number of samples without a value, which
      are in the group "missing" ("missing (no value)" where a group has that name).

    Raises:
      UserError: not one name for each sample.
    """
    codes, distinct = distinct_values(values, what)
    if not len(codes):
        raise UserError(
            f"{what} must hold one group name for each sample, shape (sample,); got shape (0,)."
        )
    texts = [text if text and text.strip() else None for text in texts_of(distinct)]
    return _sorted(codes, texts)


def _sorted(codes, texts):
    """The grouping with its names sorted, equal ones joined and "missing" last."""
    occurring = np.bincount(codes, minlength=len(texts)) > 0
    names = sorted({text for text, used in zip(texts, occurring, strict=True) if used and text})
    index = {name: i for i, name in enumerate(names)}
    ids = np.array([index.get(text, len(names)) for text in texts], np.int32)[codes]
    count = int((ids == len(names)).sum())
    whole = (*names, name_for_missing(names)) if count else tuple(names)
    return Grouping(ids[:, None], whole), count
