"""Arguments and attributes that switch a network between training and evaluation.

Networks differ in the name, in whether the flag says "training" or "evaluation", and in whether it
is an argument of the call or an attribute, of the network, of a layer in it, or of the config of
one of them. All of these are set. A layer whose flag is None expects it as an argument of its call
and is left alone.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.types import Array

# Each name with the value that it has in training.
TRAINING_VALUES = {
    **dict.fromkeys(("train", "training", "is_train", "is_training"), True),
    **dict.fromkeys(("train_mode", "training_mode", "enable_dropout", "update_stats"), True),
    **dict.fromkeys(("deterministic", "use_running_average"), False),
    **dict.fromkeys(("inference", "is_inference", "inference_mode"), False),
    **dict.fromkeys(("eval", "is_eval", "eval_mode", "evaluation"), False),
    **dict.fromkeys(("test", "is_test", "test_mode", "testing"), False),
}
RANDOM_KEYS = ("key", "rng", "rng_key", "prng_key")
RECIPE = "apply=lambda module, inputs, train: module(inputs, ...)"
HOW = (
    "Give the module an argument or attribute named train, training, deterministic, inference or "
    "use_running_average that all of its layers follow, or say how it is called, with train a "
    f"bool: {RECIPE}."
)
_Parameter = inspect.Parameter


class Apply(Protocol):
    """How a network of any calling convention is called; the `apply=` of `prune_and_tune`."""

    def __call__(self, module: Any, inputs: Any, train: bool, /) -> Array:
        """Runs the network.

        Args:
          module: the network; a Linen module with its variables bound. Flags that are attributes
            are already set.
          inputs: one batch.
          train: a Python bool.

        Returns:
          The logits.
        """
        ...


class Call(NamedTuple):
    """Arguments of a network's call other than the inputs.

    Attributes:
      flags: names of arguments that say whether the network is training.
      randomness: names of arguments that take a random key or streams, and whether each has to be
        given.
      parameters: all arguments that follow the inputs.
    """

    flags: tuple[str, ...]
    randomness: dict[str, bool]
    parameters: tuple[inspect.Parameter, ...]

    def arguments(self, train: bool, random: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and named arguments that follow the inputs.

        Args:
          train: whether the network is training.
          random: values of the arguments in `randomness` that are given.
        """
        given = {name: train == TRAINING_VALUES[name] for name in self.flags} | random
        args, kwargs, in_order = [], {}, True
        for name, kind, default in ((p.name, p.kind, p.default) for p in self.parameters):
            # By position as long as possible: programs such as nn.remat take static arguments so.
            if kind is _Parameter.POSITIONAL_ONLY:
                args.append(given.get(name, default))
            elif name in given and in_order and kind is _Parameter.POSITIONAL_OR_KEYWORD:
                args.append(given[name])
            elif name in given:
                kwargs[name] = given[name]
            in_order &= name in given or kind is _Parameter.POSITIONAL_ONLY
        return args, kwargs


def read_call(module: Any, streams: str = "") -> Call:
    """Reads how a module is called.

    An argument whose default is None, and whose name is also that of an attribute with a bool, is
    left alone: the attribute is set.

    Args:
      module: is called with inputs and what is read here.
      streams: the name of an argument that takes a set of random streams.

    Raises:
      UserError: the module cannot be called, or needs arguments that nothing is known about.
    """
    name = type(module).__name__
    if not callable(module):
        raise UserError(
            f"{name} has no __call__. Say how it is called: "
            "apply=lambda module, inputs, train: module.METHOD(inputs)."
        )
    variadic = (_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(module.__call__).parameters.values())
    parameters = tuple(p for p in parameters[1:] if p.kind not in variadic)
    is_attention = any(p.name in ("query", "value") for p in parameters)
    flags, randomness = [], {}
    for parameter in parameters:
        required = parameter.default is _Parameter.empty
        if _is_flag(parameter, module):
            flags.append(parameter.name)
        elif parameter.name == streams or (parameter.name in RANDOM_KEYS and not is_attention):
            randomness[parameter.name] = required
        elif required:
            raise UserError(
                f"{name}.__call__ also needs {parameter.name!r}, and nothing is known about it. "
                f"Say how the network is called: {RECIPE}. Inputs may be a dict of arrays."
            )
    return Call(tuple(flags), randomness, parameters)


def _is_flag(parameter, module):
    default, name = parameter.default, parameter.name
    if name not in TRAINING_VALUES or not (default in (None, _Parameter.empty) or is_bool(default)):
        return False
    return default is not None or not is_bool(getattr(module, name, None))


def is_bool(value: Any) -> bool:
    """Whether a value is True or False, and not an array."""
    return isinstance(value, bool | np.bool_)


def check_apply(apply: Any) -> None:
    """Checks that `apply` can be called with a module, inputs and a bool.

    Raises:
      UserError: it cannot.
    """
    try:
        inspect.signature(apply).bind(None, None, True)
    except (TypeError, ValueError) as error:
        raise UserError(
            "apply must be a function (module, inputs, train) -> logits, such as "
            f"lambda module, inputs, train: module(inputs, train=train); got {apply!r}: {error}."
        ) from error


def logits_of(output: Any, module: Any) -> Array:
    """The output of a network, if it is one array; in float32 if it is less exact.

    Raises:
      UserError: it is something else.
    """
    if not isinstance(output, jax.Array | np.ndarray):
        what = type(output).__name__
        if isinstance(output, tuple | list | dict):
            keys = f" with {', '.join(map(str, output))}" if isinstance(output, dict) else ""
            what = f"a {what} of {len(output)}{keys}"
        raise UserError(
            f"{type(module).__name__} must return one array of logits; got {what}. Return the "
            f"logits: apply=lambda module, inputs, train: module(inputs){_part_of(output)}."
        )
    low = jnp.issubdtype(output.dtype, jnp.floating) and output.dtype.itemsize < 4
    return output.astype(jnp.float32) if low else output


def _part_of(output):
    """Where the logits of an output probably are, as one writes it."""
    if isinstance(output, dict):
        return repr(["logits" if "logits" in output else next(iter(output), "logits")])
    if hasattr(output, "logits"):
        return ".logits"
    return "[0]" if isinstance(output, tuple | list) else "[...]"


def rewritten(
    value: Any, train: bool, clone: Callable[[Any, Callable[[Any], Any]], Any], memo: dict
) -> Any:
    """A field of a module with every flag in it set; the same object if there is none.

    Args:
      value: a module, a `functools.partial` of one, or a container of them.
      train: whether the network is training.
      clone: `(value, rewrite) -> value` for modules and all that is no container.
      memo: results so far by identity, so that what is shared stays shared.
    """
    if id(value) in memo:
        return memo[id(value)][0]

    def each(item):
        return rewritten(item, train, clone, memo)

    new: Any = value
    kind: Any = type(value)
    if isinstance(value, functools.partial):
        keywords = {k: flag_value(k, each(v), train) for k, v in value.keywords.items()}
        new = functools.partial(value.func, *map(each, value.args), **keywords)
        same = all(keywords[k] is v for k, v in value.keywords.items())
        new = value if same and _same(new.args, value.args) else new
    elif isinstance(value, Mapping):
        items = {k: flag_value(k, each(v), train) for k, v in value.items()}
        new = value if _same(items.values(), value.values()) else kind(items)
    elif isinstance(value, tuple | list):
        items = [each(item) for item in value]
        make = getattr(kind, "_make", kind)
        new = value if _same(items, value) else make(items)
    else:
        new = clone(value, each)
    memo[id(value)] = new, value  # the value as well, so that its identity is not used again
    return new


def with_fields_rewritten(value: Any, each: Callable[[Any], Any], train: bool) -> Any:
    """A data class, such as a network's config, with every flag in it set; others as they are."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    old = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
    new = {name: flag_value(name, each(field), train) for name, field in old.items()}
    changed = {name: field for name, field in new.items() if field is not old[name]}
    return dataclasses.replace(value, **changed) if changed else value


def flag_value(name: str, value: Any, train: bool) -> Any:
    """The value of a field called `name`: the flag, if it is one."""
    if name in TRAINING_VALUES and is_bool(value):
        return value if value == (train == TRAINING_VALUES[name]) else not value
    return value


def _same(one, other):
    return all(a is b for a, b in zip(one, other, strict=True))
