"""Methods by name: which constraint each puts on the fine-tuning."""

from bap_jax.constraints import (
    Constraint,
    DenseReference,
    equalized_loss,
    excess_accuracy_gap,
    unconstrained,
)
from bap_jax.training.settings import Settings


def _ceag(reference: DenseReference, settings: Settings) -> Constraint:
    return excess_accuracy_gap(
        reference,
        settings.tolerance,
        buffer_size=settings.constraint.buffer_size,
        overall_accuracy=settings.constraint.overall_accuracy,
    )


def _el(reference: DenseReference, settings: Settings) -> Constraint:
    return equalized_loss(
        reference,
        absolute=settings.constraint.el_absolute,
        buffer_size=settings.constraint.el_buffer_size,
        overall_loss=settings.constraint.overall_accuracy,
        bound=settings.constraint.el_bound,
    )


METHODS = {
    "nft": lambda reference, settings: unconstrained(),
    "el": _el,
    "ceag": _ceag,
}


def build(reference: DenseReference, settings: Settings) -> Constraint:
    """The constraint of `settings.method`."""
    return METHODS[settings.method](reference, settings)
