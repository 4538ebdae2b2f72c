"""An updater of the library jaxpruner, or of a user's subclass of its `BaseUpdater`, used here.

    updater = from_jaxpruner(MyUpdater(scheduler=jaxpruner.PolynomialSchedule(5, 0, 50)))

jaxpruner calls functions that newer versions of jax no longer have. While a function of an updater
runs, the modules that contain its code see a stand-in for `jax` that has these functions; before
and after, they and all other modules see `jax` itself.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import optax

from bap_jax.errors import UserError
from bap_jax.pruning import hooks
from bap_jax.pruning.base_updater import BaseUpdater
from bap_jax.pruning.jax_stand_in import standing_in
from bap_jax.pruning.masks import unpack_masks
from bap_jax.pruning.sparse_state import SparseState, sparse_states
from bap_jax.pruning.wrapping import wrap
from bap_jax.types import Array, Params, PyTree

LIBRARY = "jaxpruner"
_NEEDS_NO_STAND_IN = ("bap_jax", "builtins", "flax", "functools", "jax", "jaxlib", "numpy", "optax")


def from_jaxpruner(updater: Any) -> Any:
    """Makes an updater of jaxpruner usable here, with any version of jax.

    Args:
      updater: an instance of `jaxpruner.BaseUpdater` or of a subclass; one of this package's, for
        instance of a subclass of `pruning.jaxpruner.BaseUpdater`, is returned as it is.

    Returns:
      An updater that can be used wherever one of ours can. It computes what jaxpruner computes;
      `wrap_optax` is ours, so extra arguments reach the inner optimiser and removed weights are 0
      without `post_gradient_update`. A `wrap_optax` of the user's own is used as it is.

    Raises:
      UserError: jaxpruner is not installed, or `updater` is not one of its updaters.
    """
    if isinstance(updater, BaseUpdater):
        return updater
    library = _library()
    if not isinstance(updater, library.BaseUpdater):
        is_class = isinstance(updater, type)
        got = f"the class {updater.__name__}" if is_class else type(updater).__name__
        raise UserError(
            "from_jaxpruner takes an instance of jaxpruner.BaseUpdater or of a subclass of it; "
            f"got {got}."
        )
    if isinstance(updater, library.algorithms.ste.SteMixin):
        return StraightThroughFromJaxpruner(updater)
    return FromJaxpruner(updater)


class FromJaxpruner:
    """Our protocol around an updater of jaxpruner; states have its class and our fields.

    Everything that is not defined below (`calculate_scores`, `create_masks`, `apply_masks`,
    `instant_sparsify`, `init_state`, `sparsity_distribution_fn`, …) comes from the updater.

    Attributes:
      original: the updater.
      scheduler: its schedule, for any version of jax.
      pruned_moments: `keep`, since jaxpruner's `update_state` treats moments itself.
      is_straight_through: see `pruning.declarations`.
    """

    pruned_moments = "keep"
    is_straight_through = False

    def __init__(self, original: Any):
        self.original = original
        self.scheduler = JaxprunerSchedule(original.scheduler, functools.partial(_run, original))

    def __repr__(self):
        return f"from_jaxpruner({self.original!r})"

    def __getattr__(self, name: str) -> Any:
        if name == "original" or name.startswith("__"):  # `copy` asks before there is an original
            raise AttributeError(name)
        attribute = getattr(self.original, name)
        if not callable(attribute) or isinstance(attribute, type):
            return attribute
        return functools.partial(_run, self.original, attribute)

    def update_state(self, sparse_state: SparseState, params: Params, grads: PyTree) -> SparseState:
        """The state with new masks, made from weights and gradients."""
        new = _run(self.original, self.original.update_state, sparse_state, params, grads)
        # `lax.cond` needs states of one class, also where the updater makes another one.
        fields = {field: getattr(new, field) for field in SparseState._fields}
        return sparse_state._replace(**fields) if type(new) is not type(sparse_state) else new

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """New masks, not packed, for the step `sparse_state.count`."""
        outer = sparse_state._replace(inner_state=optax.EmptyState())
        return self.unpacked_masks(self.update_state(outer, params, grads), params)

    @property
    def restarts_moments_itself(self) -> bool:
        """Whether `update_state` restarts moments of those optimisers whose classes it knows."""
        return self._has("update_state", _library().SET)

    def new_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """The masks of `update_state`, packed if the updater packs them."""
        if self.restarts_moments_itself:  # and fails on a state that it does not know
            sparse_state = sparse_state._replace(inner_state=optax.EmptyState())
        return self.update_state(sparse_state, params, grads).masks

    def wrap_optax(
        self, inner: optax.GradientTransformation
    ) -> optax.GradientTransformationExtraArgs:
        """An optimiser that also prunes; see `pruning.wrapping.wrap`.

        If the updater's class has a `wrap_optax` of its own, what that returns.
        """
        if self._has("wrap_optax", _library().BaseUpdater):
            return wrap(self, inner)
        own = _run(self.original, self.original.wrap_optax, inner)

        def update(updates, state, params=None, **extra_args):
            if params is None:
                raise UserError("pruning reads the weights; write tx.update(grads, state, params).")
            extra_args = hooks.accepted(own.update, extra_args)
            return _run(self.original, own.update, updates, state, params, **extra_args)

        init = functools.partial(_run, self.original, own.init)
        return optax.GradientTransformationExtraArgs(init, update)

    def pre_forward_update(self, params: Params, opt_state: PyTree) -> Params:
        """The weights with which to apply the network.

        Args:
          params: the weights.
          opt_state: the optimiser's state, or any tree that holds a `SparseState`.
        """
        if self._has("pre_forward_update", _library().BaseUpdater):
            return params
        for state in sparse_states(opt_state):
            params = _run(self.original, self.original.pre_forward_update, params, state)
        return params

    def post_gradient_update(self, params: Params, sparse_state: PyTree) -> Params:
        """The weights to carry on with; arguments as in `pre_forward_update`."""
        for state in sparse_states(sparse_state):
            params = _run(self.original, self.original.post_gradient_update, params, state)
        return params

    @property
    def needs_gradients(self) -> bool:
        """Whether `update_state` may read gradients."""
        library = _library()
        without = library.MagnitudePruning, library.RandomPruning
        is_plain = self._has("update_state", library.BaseUpdater)
        return not (self._keeps_masks() or (is_plain and self._has("calculate_scores", *without)))

    def unpacked_masks(self, sparse_state: SparseState, params: Params) -> PyTree:
        """The state's masks in the shapes of the weights."""
        masks = sparse_state.masks
        return unpack_masks(masks, params) if self.original.use_packed_masks else masks

    def may_regrow(self) -> bool:
        """Whether a removed weight may come back; jaxpruner never rules it out."""
        return True

    def changes_masks_only(self) -> bool:
        """Whether `update_state` leaves the inner optimiser's state alone."""
        return self._has("update_state", _library().BaseUpdater) or self._keeps_masks()

    def zeroes_removed(self) -> bool:
        """Whether removed weights are 0 after every step."""
        return self._has("post_gradient_update", _library().BaseUpdater)

    def hooks_outside_training(self) -> tuple[str, ...]:
        """Own methods that only a loop around `wrap_optax` calls, not a step of `training`."""
        names = (
            ("wrap_optax",) if self.is_straight_through else ("wrap_optax", "pre_forward_update")
        )
        return tuple(name for name in names if not self._has(name, _library().BaseUpdater))

    def _keeps_masks(self):
        library = _library()
        mixin, static = library.algorithms.ste.SteMixin, library.StaticRandomSparse
        return self._has("update_state", library.NoPruning, mixin, static)

    def _has(self, method, *owners):
        """Whether the method comes from one of these classes and nothing overrides it."""
        return any(hooks.is_unchanged(self.original, owner, method) for owner in owners)


class StraightThroughFromJaxpruner(FromJaxpruner):
    """The same around a straight-through updater."""

    is_straight_through = True

    def update_masks(self, sparse_state: SparseState, params: Params, grads: PyTree) -> PyTree:
        """Masks of the dense weights `params` at the state's step."""
        targets, count = sparse_state.target_sparsities, sparse_state.count
        sparsities = self.scheduler.get_sparsity_at_step(targets, count)
        scores = self.calculate_scores(params, sparse_state=sparse_state, grads=grads)
        return self.create_masks(scores, sparsities)

    def present_masks(self, params: Params, sparse_state: SparseState) -> PyTree:
        """Masks of the dense weights `params` at the state's step."""
        # jaxpruner's state holds no masks here; if the caller's state does, they must not count.
        masks = self.get_initial_masks(params, None)
        return self.update_masks(sparse_state._replace(masks=masks), params, None)


class JaxprunerSchedule:
    """A schedule of jaxpruner, run with the stand-in.

    Attributes:
      last_update_step: the last step at which masks change; −1: they never do, None: there is no
        last, or the schedule is not one of jaxpruner's.
    """

    def __init__(self, original: Any, run: Callable[..., Any]):
        self.original, self._run = original, run
        self.last_update_step = _last_update_step(original)

    def is_mask_update_iter(self, step: Array | int) -> Array | bool:
        """Whether masks change at `step`."""
        return self._run(self.original.is_mask_update_iter, step)

    def get_sparsity_at_step(self, target_sparsities: PyTree, step: Array | int) -> PyTree:
        """The sparsity of each tensor at `step`, given its target."""
        return self._run(self.original.get_sparsity_at_step, target_sparsities, step)


def _last_update_step(schedule):
    schedules = _library().sparsity_schedules
    if type(schedule) is schedules.NoUpdateSchedule:
        return -1
    if type(schedule) is schedules.OneShotSchedule:
        return schedule.target_step
    if type(schedule) not in (schedules.PeriodicSchedule, schedules.PolynomialSchedule):
        return None
    if schedule.update_end_step is None:
        return None
    last = schedule.update_end_step // schedule.update_freq * schedule.update_freq
    return last if last >= schedule.update_start_step else -1


def _library():
    try:
        import jaxpruner
    except ModuleNotFoundError as error:
        if error.name != LIBRARY:
            raise
        raise UserError(
            "from_jaxpruner runs updaters written with the library jaxpruner, which is not "
            "installed. bap_jax.pruning has all of its algorithms, under the same names. If you "
            "have written your own updaters with jaxpruner: git clone "
            "https://github.com/google-research/jaxpruner, and put the clone on PYTHONPATH."
        ) from None
    return jaxpruner


def _run(updater, function, *args, **kwargs):
    with standing_in(_modules(updater)):
        return function(*args, **kwargs)


def _modules(updater):
    """Modules with the updater's code: jaxpruner, its classes, and what it was given."""
    names: set[Any] = {name for name in sys.modules if name.split(".")[0] == LIBRARY}
    for value in (updater, *vars(updater).values()):
        while isinstance(value, functools.partial):
            value = value.func
        names |= {cls.__module__ for cls in type(value).__mro__}
        names.add(getattr(value, "__module__", None))
    names = {name for name in names if name and name.split(".")[0] not in _NEEDS_NO_STAND_IN}
    return [sys.modules[name] for name in sorted(names) if sys.modules.get(name)]
