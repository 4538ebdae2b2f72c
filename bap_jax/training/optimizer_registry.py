"""Optimisers by name, the user's own among them.

An optimiser is named in `OptimizerSettings.name`, `DualSettings.optimizer`,
`prune_and_tune(optimizer=..., dual_optimizer=...)` and the config by

    a known name          see `OPTIMIZERS` and `register_optimizer`
    module:function       an `OptimizerBuilder` that Python can import, or a function of optax that
                          takes `learning_rate`, such as optax:adafactor or optax.contrib:muon

and in Python also by the object itself: an `OptimizerBuilder`, or an optax transformation, which
brings its own learning rate.
"""

import inspect
from typing import Any, NamedTuple, Protocol

import optax

from bap_jax._user_code import check_registration, import_object
from bap_jax.errors import UserError
from bap_jax.training.schedules import Rate
from bap_jax.training.settings import OptimizerSettings


class OptimizerBuilder(Protocol):
    """A function that makes the optimiser of one training."""

    def __call__(
        self, learning_rate: Rate, settings: OptimizerSettings, /
    ) -> optax.GradientTransformation:
        """Makes an optimiser; the second argument may be left out of the function.

        It is called while a program is traced, so `learning_rate` may be an array.

        Args:
          learning_rate: a number, or a function of the step; schedule and warm-up are in it.
          settings: of the optimiser. The norm of the gradient is clipped already.
        """
        ...


# What `OptimizerSettings.name` may be: a known name, `module:function`, or one of the objects.
OptimizerLike = str | OptimizerBuilder | optax.GradientTransformation


class OptimizerSpec(NamedTuple):
    """A known optimiser.

    Attributes:
      build: makes it.
      takes_settings: whether `build` takes the settings, too.
    """

    build: Any
    takes_settings: bool = True


def _sgd(learning_rate, settings):
    """SGD with momentum; weight decay is a true L2 term."""
    sgd = optax.sgd(learning_rate, momentum=settings.momentum or None, nesterov=settings.nesterov)
    return _with_l2(settings, sgd)


def _adam(learning_rate, settings):
    return _with_l2(settings, optax.adam(learning_rate, *_betas(settings, 0.999)))


def _adamw(learning_rate, settings):
    betas = _betas(settings, 0.999)
    return optax.adamw(learning_rate, *betas, weight_decay=settings.weight_decay)


def _lion(learning_rate, settings):
    betas = _betas(settings, 0.99)
    return optax.lion(learning_rate, *betas, weight_decay=settings.weight_decay)


def _lamb(learning_rate, settings):
    betas = _betas(settings, 0.999)
    return optax.lamb(learning_rate, *betas, weight_decay=settings.weight_decay)


def _betas(settings, usual):
    return settings.beta1, settings.beta2 or usual


def _with_l2(settings, optimizer):
    if not settings.weight_decay:
        return optimizer
    return optax.chain(optax.add_decayed_weights(settings.weight_decay), optimizer)


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "sgd": OptimizerSpec(_sgd),
    "adam": OptimizerSpec(_adam),
    "adamw": OptimizerSpec(_adamw),
    "lion": OptimizerSpec(_lion),
    "lamb": OptimizerSpec(_lamb),
}


def register_optimizer(name: str, build: OptimizerBuilder, *, replace: bool = False) -> None:
    """Makes an optimiser known by name, for settings, configs and sweeps.

    Args:
      name: letters, numbers and `_ . + -`.
      build: makes it, see `training.OptimizerBuilder`.
      replace: give a name that is in use a new meaning.

    Raises:
      UserError: the name is taken, unless by the same function, or cannot be a name; or `build` is
        no such function.

    Example:
      >>> def slow_adam(learning_rate, settings):
      ...     return optax.adam(learning_rate, b1=settings.momentum, b2=0.9999)
      >>> register_optimizer("slow_adam", slow_adam)
      >>> OPTIMIZERS.pop("slow_adam").takes_settings  # forgets it again
      True
    """
    spec = _spec_of(build)
    known = {key: registered.build for key, registered in OPTIMIZERS.items()}
    check_registration("optimizer", name, spec.build, known, replace)
    OPTIMIZERS[name] = spec


def is_transformation(optimizer: Any) -> bool:
    """Whether this is an optax transformation, or what has its two functions."""
    functions = getattr(optimizer, "init", None), getattr(optimizer, "update", None)
    return not isinstance(optimizer, type) and all(map(callable, functions))


def as_transformation(optimizer: Any) -> optax.GradientTransformation:
    """The optax transformation; one made of `optimizer.init` and `.update` if it is none itself."""
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return optax.GradientTransformationExtraArgs(optimizer.init, optimizer.update)


def find_optimizer(optimizer: OptimizerLike) -> OptimizerSpec:
    """The optimiser that a setting names, or is, as a function of the learning rate.

    Raises:
      UserError: it is unknown, cannot be imported, or is no optimiser; the message lists the known
        names.
    """
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]
    found: Any = optimizer
    if isinstance(optimizer, str):
        if ":" not in optimizer:
            raise UserError(
                f"unknown optimizer {optimizer!r}; known: {', '.join(OPTIMIZERS)}. For another of "
                "optax write for instance 'optax:adafactor', for your own 'module:function', or "
                "call bap_jax.register_optimizer(name, build) first."
            )
        found = import_object(optimizer, "optimizer")
    if is_transformation(found):
        return OptimizerSpec(lambda learning_rate, settings: as_transformation(found))
    return _spec_of(found)


def build_optimizer(
    optimizer: OptimizerLike,
    learning_rate: Rate,
    settings: OptimizerSettings,
) -> optax.GradientTransformation:
    """The optax transformation that a setting names, or is.

    Args:
      optimizer: see `find_optimizer`.
      learning_rate, settings: see `OptimizerBuilder`; a transformation brings its own.

    Raises:
      UserError: see `find_optimizer`; or the function does not return a transformation.
    """
    spec = find_optimizer(optimizer)
    arguments = (learning_rate, settings) if spec.takes_settings else (learning_rate,)
    built = spec.build(*arguments)
    if not is_transformation(built):
        raise UserError(
            f"optimizer {optimizer_name(optimizer)!r} must return an optax transformation; got "
            f"{type(built).__name__}."
        )
    return as_transformation(built)


def optimizer_name(optimizer: OptimizerLike) -> str:
    """How messages call it: its name, or `custom` where it has none.

    Example:
      >>> optimizer_name("adamw"), optimizer_name(optax.sgd(0.1))
      ('adamw', 'custom')
    """
    if isinstance(optimizer, str):
        return optimizer
    name = getattr(optimizer, "__name__", "")
    return name if name.isidentifier() else "custom"


def _spec_of(build: Any) -> OptimizerSpec:
    """A builder, after its arguments have been counted."""
    if callable(build) and not isinstance(build, type):
        required = _required_arguments(build)
        if len(required) == 2:
            return OptimizerSpec(build)
        if len(required) == 1 or _first_argument(build) == "learning_rate":
            return OptimizerSpec(build, takes_settings=False)
    hint = "; pass its optax transformation, its `tx`" if hasattr(build, "tx") else ""
    raise UserError(
        "an optimizer is a name, an optax transformation such as optax.adamw(1e-3), or a function "
        f"(learning_rate, settings) -> transformation; got {repr(build)[:80]}{hint}."
    )


def _parameters(build):
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [parameter for parameter in parameters if parameter.kind in kinds]


def _required_arguments(build) -> list[str]:
    return [p.name for p in _parameters(build) if p.default is inspect.Parameter.empty]


def _first_argument(build) -> str:
    parameters = _parameters(build)
    return parameters[0].name if parameters else ""
