"""Whether predictions are right, and whether labels and predictions are the same kind of thing.

A model whose predictions are written in another way than the labels would seem to be wrong
everywhere, or, worse, right now and then. So what cannot be meant is an error.
"""

import numpy as np

from bap_jax.audit import values
from bap_jax.audit.values import Names
from bap_jax.errors import UserError, first_of

_SHOWN = 3
# Predictions that are no label at all are worth a warning in so many of the samples.
_MANY = 0.01


def judge(label: Names, predicted: Names, scored: bool, what: str) -> np.ndarray:
    """Whether the predictions are the labels.

    Args:
      label: `(sample,)`, none missing.
      predicted: `(sample,)`, none missing.
      scored: whether these are classes with the highest score, so that all classes are known.
      what: what errors call the predictions.

    Returns:
      `(sample,)` bool.

    Raises:
      UserError: no prediction is ever a label, a label has no score, or predictions are fractions
        where labels are class ids.
    """
    labels, guesses = (_comparable(names) for names in (label, predicted))
    known = set(labels)
    strange = sorted(known - set(guesses))
    if scored and strange:
        raise UserError(
            f"{what}: there are scores of the classes {first_of(predicted.names, _SHOWN)}, but "
            f"none of the label {strange[0]!r}."
        )
    fractions = [name for name in guesses if _is_fraction(name)]
    if fractions and not any(map(_is_fraction, labels)):
        raise UserError(
            f"{what} holds {fractions[0]}, which is no class; expected a class name or id, or "
            "scores in a column for each class. If it is the score of one of two classes, write "
            "0 or 1 instead, by your threshold."
        )
    if not known & set(guesses):
        raise UserError(
            f"{what}: no prediction is one of the labels: labels are "
            f"{first_of(label.names, _SHOWN)}; predictions are "
            f"{first_of(predicted.names, _SHOWN)}. Write both as class names, or both as ids."
        )
    numbers = {name: i for i, name in enumerate(dict.fromkeys((*labels, *guesses)))}
    return _numbered(label, labels, numbers) == _numbered(predicted, guesses, numbers)


def warnings(label: Names, predicted: Names, what: str) -> list[str]:
    """A line if many predictions are classes that no sample has: another spelling, perhaps."""
    known = set(_comparable(label))
    unknown = np.array([name not in known for name in _comparable(predicted)])
    samples = unknown[predicted.ids]
    if samples.mean() < _MANY:
        return []
    seen = np.unique(predicted.ids[samples])
    shown = first_of([predicted.names[i] for i in seen], _SHOWN)
    return [
        f"{what}: {samples.sum()} of {len(samples)} predictions are classes that no label has: "
        f"{shown}; they count as wrong."
    ]


def _comparable(values_of: Names):
    return [values.comparable(name) for name in values_of.names]


def _is_fraction(text):
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


def _numbered(of: Names, texts, numbers):
    return np.array([numbers[text] for text in texts])[of.ids]
