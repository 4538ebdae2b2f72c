"""Criteria by name, the user's own among them.

    --config.loss=NAME      a name of `CRITERIA`, `top_K` for a number K, or module:function
    --config.correct=NAME   the same; left out, right is what goes with the loss

In Python `loss=` and `correct=` of `prune_and_tune` take the same names, and functions.
"""

import dataclasses
import re
from typing import cast

from bap_jax._user_code import check_registration, import_object
from bap_jax.errors import UserError
from bap_jax.metrics.criterion import CLASSIFICATION, Criterion, LabelCheck, SampleFunction
from bap_jax.metrics.ready_made import BINARY, MULTI_LABEL, ORDINAL, SEQUENCE, ordinal, top_k

CRITERIA: dict[str, Criterion] = {
    "classification": CLASSIFICATION,
    "binary": BINARY,
    "multi_label": MULTI_LABEL,
    "sequence": SEQUENCE,
    "ordinal": ORDINAL,
    "ordinal_within_1": ordinal(1),
    "top_5": top_k(5),
}
_TOP_K = re.compile(r"top_([1-9]\d*)")

# What `loss` and `correct` may be: a name, `module:function`, a function, or a whole criterion.
CriterionLike = str | SampleFunction | Criterion | None


def register_criterion(name: str, criterion: Criterion, *, replace: bool = False) -> None:
    """Makes a criterion known by name, for `config.loss` and `config.correct`.

    Args:
      name: letters, numbers and `_ . + -`.
      criterion: loss and correctness of each sample, see `bap_jax.metrics.Criterion`.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same functions, or cannot be a name; or
        `criterion` is none.

    Example:
      >>> from bap_jax import metrics, register_criterion
      >>> register_criterion("top_2_of_3", metrics.top_k(2))
      >>> CRITERIA.pop("top_2_of_3") is metrics.top_k(2)  # forgets it again
      True
    """
    if not isinstance(criterion, Criterion):
        raise UserError(
            "register_criterion takes bap_jax.metrics.Criterion(loss, correct); got "
            f"{type(criterion).__name__}."
        )
    for field in ("loss", "correct"):
        known = {key: getattr(registered, field) for key, registered in CRITERIA.items()}
        check_registration("criterion", name, getattr(criterion, field), known, replace)
    CRITERIA[name] = criterion


def find_criterion(loss: CriterionLike = None, correct: CriterionLike = None) -> Criterion:
    """The criterion that a user's `loss` and `correct` make together.

    Args:
      loss: a name, `module:function`, a function or a `Criterion`; by default the cross-entropy of
        class ids.
      correct: the same; by default what goes with `loss`, and with a function of the user's own
        that the label has the largest logit.

    Raises:
      UserError: a name is unknown or cannot be imported, or an object cannot be called; the message
        lists the known names.

    Example:
      >>> find_criterion() is CLASSIFICATION, find_criterion("binary") is BINARY
      (True, True)
    """
    base = _named(loss, "loss") or CLASSIFICATION
    own_loss = not isinstance(base, Criterion)
    right = _named(correct, "correct")
    if right is None:
        return dataclasses.replace(CLASSIFICATION, loss=base) if own_loss else base
    check: LabelCheck | None = None
    if isinstance(right, Criterion):
        right, check = right.correct, right.check_labels
    if own_loss:
        return Criterion(base, right, check_labels=check)
    if right is base.correct:
        return base
    return dataclasses.replace(
        base, correct=right, check_labels=base.check_labels or check, has_classes=False
    )


def _named(value, argument) -> Criterion | SampleFunction | None:
    """A criterion, a function, or None where nothing is given."""
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, str):
        value = _find(value, argument)
    if not isinstance(value, Criterion) and not callable(value):
        raise UserError(
            f"{argument} is a name, a function (logits, labels) -> (batch,), or a "
            f"bap_jax.metrics.Criterion; got {value!r}."
        )
    return cast(Criterion | SampleFunction, value)


def _find(name, argument):
    if name in CRITERIA:
        return CRITERIA[name]
    if match := _TOP_K.fullmatch(name):
        return top_k(int(match.group(1)))
    if ":" in name:
        return import_object(name, argument)
    raise UserError(
        f"unknown {argument} {name!r}; known: {', '.join(CRITERIA)}, top_K. For your own write "
        "'module:function', or call bap_jax.register_criterion(name, criterion) first."
    )
