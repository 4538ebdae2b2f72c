"""What an algorithm's class says about itself, and what the settings of a run say to it.

No other code depends on the name of a class or on its module. All differences between algorithms
are attributes, listed below, so a class in a user's file can do whatever ours can.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from bap_jax.pruning.schedule_protocol import Schedule
from bap_jax.pruning.sparsity_distributions import Distribution, FilterFn
from bap_jax.pruning.sparsity_types import SparsityType
from bap_jax.types import ChannelGroup, PyTree


class UpdaterOptions(NamedTuple):
    """What the settings of a run say about its updater.

    Attributes:
      sparsity: fraction of the prunable weights to remove, in [0, 1).
      distribution: `params -> ` target of each leaf, None where it is not pruned.
      filter_fn: `(key, leaf) -> ` whether a leaf may be pruned.
      sparsity_type: shapes in which weights are removed.
      scheduler: counts epochs.
      counting: a key of `counting.RULES`.
      rng_seed: seed of everything random.
      masks: made from data, for classes with `needs_data`.
      groups: prunable groups of channels, for classes with `needs_channel_groups`.
    """

    sparsity: float
    distribution: Distribution
    filter_fn: FilterFn
    sparsity_type: SparsityType
    scheduler: Schedule
    counting: str
    rng_seed: int
    masks: PyTree = None
    groups: Sequence[ChannelGroup] = ()


class Declarations:
    """Class attributes of an updater, at their defaults.

    Facts, which subclasses inherit:
      needs_gradients: whether scores read gradients.
      default_schedule: what `pruning.schedule="auto"` means, a key of
        `training.pruner_settings.SCHEDULES`. `"none"`: masks are made before the first step and
        stay, and settings allow no other schedule.
      is_straight_through: whether the weights stay dense and only what the network is applied with
        is masked. Such a class has `present_masks`, see `pruning.ste`.
      is_layerwise: whether the constructor takes `sparsity_distribution_fn`. If not, it takes
        `sparsity` and `filter_fn`, and settings allow no distribution but the default.
      takes_sparsity_type: whether the constructor takes `sparsity_type`. If not, settings allow no
        type but `unstructured`.
      has_sparsity: whether there is a sparsity to reach.
      needs_data: whether masks are made once from the dense network and data, see `MasksFromData`.
      needs_channel_groups: whether `UpdaterOptions.groups` is needed.

    Promises, which hold only for methods that the same class body defines (see
    `pruning.promises`). Without them results are the same, and some steps are slower:
      never_regrows: of `calculate_scores`, `create_masks`, `update_masks` and `update_state`: a
        removed weight ranks below all others, so it comes back only where the sparsity falls.
      keeps_inner_state: of `update_state`: the wrapped optimiser's state does not change, but for
        moments of weights that come back.
      zeroes_after_update: of `post_gradient_update`: removed weights become 0, and nothing else.
      supports_arrays: of `init_state`, `get_initial_masks`, `create_masks`, `update_masks`,
        `update_state` and `instant_sparsify`: they read targets, counts, given masks and the key
        only where `pruning.arrays` replaces these, so runs that differ in them share a program.
    """

    needs_gradients: ClassVar[bool] = True
    default_schedule: ClassVar[str] = "gradual"
    is_straight_through: ClassVar[bool] = False
    is_layerwise: ClassVar[bool] = True
    takes_sparsity_type: ClassVar[bool] = True
    has_sparsity: ClassVar[bool] = True
    needs_data: ClassVar[bool] = False
    needs_channel_groups: ClassVar[bool] = False

    never_regrows: ClassVar[bool] = False
    keeps_inner_state: ClassVar[bool] = False
    zeroes_after_update: ClassVar[bool] = False
    supports_arrays: ClassVar[bool] = False

    @classmethod
    def constructor_arguments(cls, options: UpdaterOptions) -> dict[str, Any]:
        """The arguments, by name, with which settings make an updater of this class."""
        if not cls.has_sparsity:
            return {}
        arguments: dict[str, Any] = {
            "scheduler": options.scheduler,
            "counting": options.counting,
            "rng_seed": options.rng_seed,
        }
        if cls.takes_sparsity_type:
            arguments["sparsity_type"] = options.sparsity_type
        if cls.is_layerwise:
            return arguments | {"sparsity_distribution_fn": options.distribution}
        return arguments | {"sparsity": options.sparsity, "filter_fn": options.filter_fn}
