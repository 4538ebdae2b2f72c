"""What shapes, settings and group sizes decide about a run, before anything is trained."""

import jax
import numpy as np

from bap_jax import data, training
from bap_jax.constraints import DenseReference
from bap_jax.errors import UserError, first_of
from bap_jax.models import Model
from bap_jax.pipeline.assembly import check_pruner_settings
from bap_jax.training import Settings
from bap_jax.training.methods import build_method, method_name
from bap_jax.types import Variables


def check_run(model: Model, variables: Variables, splits: data.Splits, settings: Settings) -> None:
    """Finds mistakes that would otherwise show only once the dense network is there.

    Args:
      model: the network.
      variables: of the network, trained or not; only shapes are read.
      splits: of the data, on the host.
      settings: of the run, checked by `training.check_settings`.

    Raises:
      UserError: the algorithm cannot prune this network in these shapes (the message names the
        tensor), the method cannot be built, or no group is large enough for it.
    """
    check_pruner_settings(model, variables, data.example(splits.train), settings)
    method = _traced_method(len(splits.group_names), settings)
    if method.constraint.size and not method.watches_all:
        _check_group_sizes(splits, settings)


def _check_group_sizes(splits, settings):
    """Checks that one group at least is large enough to be constrained."""
    least, names = settings.constraint.min_group_size, splits.group_names
    ids = np.asarray(splits.train.group_ids)
    counts = [int((ids == group).sum()) for group in range(len(names))]
    if max(counts) < least:
        shown = [f"{name} has {count}" for name, count in zip(names, counts, strict=True)]
        raise UserError(
            f"method {method_name(settings.method)!r} constrains groups of at least {least} "
            f"training samples, and there is none: {first_of(shown, 10)}. Lower "
            "constraint.min_group_size, or bring more samples."
        )


def _traced_method(num_groups: int, settings: Settings) -> training.Method:
    """The method, built for numbers of the dense network that are not known yet."""
    found = []

    def build(group, single):
        reference = DenseReference(group, single, group, single, group, group)
        found.append(build_method(reference, settings))

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((num_groups,), ())]
    jax.eval_shape(build, *shapes)
    return found[0]
