"""Flax Linen modules as `Model`s."""

import contextlib
import dataclasses
import re
import zlib

import jax
from flax import core, errors
from flax import linen as nn

from bap_jax.errors import UserError
from bap_jax.models import flags
from bap_jax.models.base import Model
from bap_jax.models.flags import Apply
from bap_jax.models.states import fitted, is_trainable, plain_array
from bap_jax.models.switched import switched_kind
from bap_jax.types import Variables

# What these collections hold are outputs of one batch.
_OUTPUTS = ("intermediates", "perturbations")


def from_linen(module: nn.Module, apply: Apply | None = None) -> Model:
    """Wraps a Linen module.

    The flag that switches to training is looked for among the arguments of its `__call__` and the
    attributes of the module and its layers: `train`, `training`, `deterministic`, `inference`,
    `use_running_average` and the like, see `bap_jax.models.flags`. Every random stream that it
    asks for is seeded. What it sows is dropped.

    Args:
      module: takes inputs `(batch, ...)`.
      apply: `(module, inputs, train) -> logits`, for a module that is called in another way.

    Raises:
      UserError: `__call__` needs arguments that nothing is known about.
    """
    modes = {train: _in_mode(module, train) for train in (True, False)}
    calls = {}
    if apply is None:
        calls = {train: flags.read_call(modes[train]) for train in modes}
    else:
        flags.check_apply(apply)

    def method(module, inputs, train, key):
        if apply is not None:
            return apply(module, inputs, train)
        randomness = calls[train].randomness.items()
        names = [name for name, needed in randomness if needed or (train and key is not None)]
        given = {name: _stream(key, name) for name in names}
        args, kwargs = calls[train].arguments(train, given)
        return module(inputs, *args, **kwargs)

    forward = _Forward(modes, method)

    def init(key, inputs):
        return split(modes[False].init(key, inputs, False, key, method=method))

    return Model(
        init,
        forward.apply,
        join,
        module,
        call=apply,
        switched=forward.switched if not apply else None,
    )


class _Forward:
    """The forward pass of a module: its random streams, and which collections it may change.

    Args:
      modes: the module in training and in evaluation.
      method: `(bound module, inputs, train, key) -> output`.
    """

    def __init__(self, modes, method):
        self.modes, self.method = modes, method
        self.streams = {True: {"dropout"}, False: set()}
        self.constant = set()  # collections that the forward pass need not change
        self.moving = {"batch_stats"}  # collections that it does change

    def apply(self, variables, inputs, *, train=False, key=None):
        names = [c for c in variables.state if c != "params" and c not in self.constant]
        with _noting_sown({*names} <= self.moving) as sown:
            output = self.run(variables, inputs, train, key, names if train else False)
        output, moved = output if train else (output, {})
        state, doubtful = dict(variables.state), []
        for name, new in moved.items():
            new = fitted(new, state[name])
            doubtful += [name] if new is None or name in sown - self.moving else []
            state[name] = new
        for name in doubtful:
            self._try_constant(name, state[name] is None, variables, inputs, key)
        if doubtful:
            return self.apply(variables, inputs, train=train, key=key)
        return flags.logits_of(output, self.modes[train]), state

    def run(self, variables, inputs, train, key, mutable):
        """Runs the module, and learns the names of its random streams on the way."""
        names = set() if train and key is None else set(self.streams[train])
        while True:
            rngs = {name: _stream(key, name) for name in sorted(names)}
            try:
                with _noting_wanted() as wanted:
                    output = self.modes[train].apply(
                        *(join(variables), inputs, train, key),
                        method=self.method,
                        rngs=rngs,
                        mutable=mutable,
                    )
                if not train or key is None or wanted <= names:
                    return output
                names |= wanted
                self.streams[train] |= wanted
            except errors.ModifyScopeVariableError as error:
                if train:
                    raise
                what = str(error).split(" (https://")[0]
                raise UserError(
                    f"the network changes its state in evaluation: {what} {flags.HOW}"
                ) from error
            except errors.InvalidRngError as error:
                found = re.search(r'needs PRNG for "(.*)"', str(error))
                if found is None or found[1] in names or (train and key is None):
                    raise
                names.add(found[1])
                self.streams[train].add(found[1])

    def switched(self, variables, inputs):
        """Names of the layers that ought to act differently in training, by kind."""
        found, calls = {}, []

        def look(call, args, kwargs, context):
            calls.append(context.module)
            before, output = len(calls), call(*args, **kwargs)
            kind = switched_kind(context.module, len(calls) > before)
            if kind:
                found.setdefault(kind, "/".join(context.module.path))
            return output

        with nn.intercept_methods(look):
            key = jax.random.key(0)
            jax.eval_shape(lambda v, x: self.apply(v, x, train=True, key=key), variables, inputs)
        if jax.tree.leaves(variables.state.get("batch_stats", {})):
            found.setdefault("batch_norm", "batch_stats")
        return found

    def _try_constant(self, name, is_grown, variables, inputs, key):
        """Whether the network runs without changing a collection, as with one that is sown."""
        kept = ("params", name, *self.constant)
        try:
            self.run(variables, inputs, True, key, [c for c in variables.state if c not in kept])
        except errors.FlaxError as error:
            if is_grown:
                raise UserError(
                    f"in training the forward pass changes the shapes or types in the network's "
                    f"collection {name!r}, so that no step can follow another. Make these "
                    "variables once, in module.init, and keep their shapes."
                ) from error
            self.moving.add(name)
        else:
            self.constant.add(name)


@contextlib.contextmanager
def _noting_sown(is_known):
    """The collections into which modules sow meanwhile; nothing is noted if that is known."""
    sown = set()
    with contextlib.nullcontext() if is_known else _noting("sow", sown):
        yield sown


@contextlib.contextmanager
def _noting_wanted():
    """The random streams of which modules ask meanwhile whether they are there.

    A network that does so is random where they are. Asking for `params` is how some find out that
    they are being initialised.
    """
    wanted = set()
    with _noting("has_rng", wanted):
        yield wanted
        wanted.discard("params")


def _noting(method, names):
    """Adds to `names` the first argument of every call of this method of `nn.Module`.

    The copies of modules that Flax makes for one forward pass get a method of their own.
    """

    def watch(call, args, kwargs, context):
        module = context.module
        if method not in vars(module):
            original = getattr(module, method)

            def noting(name, *args, **kwargs):
                names.add(name)
                return original(name, *args, **kwargs)

            object.__setattr__(module, method, noting)  # modules refuse new attributes
        return call(*args, **kwargs)

    return nn.intercept_methods(watch)


def _stream(key, name):
    """The key of a random stream: for `dropout` the key itself. Without a key always the same."""
    key = jax.random.key(0) if key is None else key
    return key if name == "dropout" else jax.random.fold_in(key, zlib.crc32(name.encode()))


def _in_mode(module, train):
    def clone(value, each):
        if not isinstance(value, nn.Module):
            return flags.with_fields_rewritten(value, each, train)
        names = [
            f.name for f in dataclasses.fields(value) if f.init and f.name not in ("parent", "name")
        ]
        fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
        new = {name: flags.flag_value(name, each(old), train) for name, old in fields.items()}
        updates = {name: new[name] for name in fields if new[name] is not fields[name]}
        return value.clone(**updates) if updates else value

    return flags.rewritten(module, train, clone, {})


def split(collections) -> Variables:
    """The variable dict of a Linen module as `Variables` of plain arrays.

    Boxes such as `nn.Partitioned` are opened. Parameters that are no floating-point numbers do not
    train, and are part of the state.

    Raises:
      UserError: there is no `params` collection.
    """
    if not hasattr(collections, "keys") or "params" not in collections:
        raise UserError(
            "expected Linen variables with a 'params' collection, such as module.init returns; "
            f"got {_describe(collections)}. Write variables={{'params': params}}."
        )
    collections = nn.meta.unbox(core.unfreeze(collections))
    collections = jax.tree.map(plain_array, collections)
    state = {n: c for n, c in collections.items() if n != "params" and n not in _OUTPUTS}
    params, others = _divided(collections["params"])
    return Variables(params, {"params": others, **state} if others else state)


def join(variables: Variables):
    """The variable dict of a Linen module."""
    params = _merged(variables.params, variables.state.get("params", {}))
    return {**variables.state, "params": params}


def joining_as(collections):
    """`join`, with boxes and the kind of dict as in `collections`."""
    plain = core.unfreeze(collections)
    boxed = any(map(_is_box, jax.tree.leaves(plain, is_leaf=_is_box)))

    def joined(variables):
        new = join(variables)
        if boxed:
            template = {name: plain.get(name, new[name]) for name in new}
            new = nn.meta.replace_boxed(template, new)
        return core.freeze(new) if isinstance(collections, core.FrozenDict) else new

    return joined


def _is_box(leaf):
    return isinstance(leaf, nn.meta.AxisMetadata)


def _divided(params):
    """Trainable parameters, and the others."""
    if not isinstance(params, dict):
        return params, {}
    trained, others = {}, {}
    for name, value in params.items():
        if isinstance(value, dict):
            inner, rest = _divided(value)
            trained[name] = inner
            if rest:
                others[name] = rest
        else:
            (trained if is_trainable(value) else others)[name] = value
    return trained, others


def _merged(one, other):
    both = dict(one) if other else one
    for name, value in other.items():
        both[name] = _merged(both.get(name, {}), value) if isinstance(value, dict) else value
    return both


def _describe(value) -> str:
    return f"keys {sorted(value)}" if hasattr(value, "keys") else type(value).__name__
