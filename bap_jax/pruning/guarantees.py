"""What the engine may rely on of an updater; each follows from promises, see `pruning.promises`."""

from collections.abc import Callable

from bap_jax.pruning.declarations import Declarations
from bap_jax.pruning.mask_calculator import StandardTopk
from bap_jax.pruning.promises import promised
from bap_jax.pruning.schedule_protocol import Schedule, never_falls
from bap_jax.types import Array


class Guarantees(Declarations):
    """The part of `BaseUpdater` that says what its methods never do."""

    scheduler: Schedule
    topk_fn: Callable[[Array, Array], Array] | None

    def has_standard_topk(self) -> bool:
        """Whether masks are made by `sparsity_type`, and not by a `topk_fn` of the user's."""
        return self.topk_fn is None or isinstance(self.topk_fn, StandardTopk)

    def may_regrow(self) -> bool:
        """Whether a removed weight may come back."""
        methods = "calculate_scores", "create_masks", "update_masks", "update_state"
        ranks_last = self.has_standard_topk() and promised(self, "never_regrows", *methods)
        return not (ranks_last and never_falls(self.scheduler))

    def changes_masks_only(self) -> bool:
        """Whether `update_state` does nothing else to the state that `wrap_optax` does not do."""
        return promised(self, "keeps_inner_state", "update_state")

    def zeroes_removed(self) -> bool:
        """Whether removed weights are 0 after every step."""
        return promised(self, "zeroes_after_update", "post_gradient_update")
