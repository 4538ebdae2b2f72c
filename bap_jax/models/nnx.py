"""Flax NNX modules as `Model`s."""

import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bap_jax.errors import UserError
from bap_jax.models import flags
from bap_jax.models.base import Model
from bap_jax.models.flags import Apply
from bap_jax.models.states import fitted, is_trainable, plain_array
from bap_jax.models.switched import switched_kind
from bap_jax.types import Variables


def from_nnx(module: nnx.Module, apply: Apply | None = None) -> tuple[Model, Variables]:
    """Wraps a trained NNX module, which does not change.

    The flag that switches to training is looked for among the arguments of its `__call__` and the
    attributes of the module and its layers, see `bap_jax.models.flags`; its methods `train()` and
    `eval()` are called, too. In training every random stream of the module is seeded from the key
    of the step. What it sows is dropped. Parameters are `nnx.Param` and its subclasses; those that
    are no floating-point numbers do not train, and are part of the state.

    Args:
      module: takes inputs `(batch, ...)`.
      apply: `(module, inputs, train) -> logits`, for a module that is called in another way.

    Raises:
      UserError: `__call__` needs arguments that nothing is known about.

    Example:
      >>> import jax.numpy as jnp
      >>> model, variables = from_nnx(nnx.Linear(4, 2, rngs=nnx.Rngs(0)))
      >>> logits, _ = model.apply(variables, jnp.ones((3, 4)), train=False, key=None)
      >>> logits.shape
      (3, 2)
    """
    forward = _Forward(module, apply)
    variables = forward.variables
    switched = None if apply else lambda variables, inputs: _switched(module)
    model = Model(
        lambda key, inputs: variables,
        forward.apply,
        lambda variables: forward.merge(variables, train=False),
        module=module,
        call=apply,
        switched=switched,
    )
    return model, variables


class _Forward:
    """The forward pass of a module in training and in evaluation."""

    def __init__(self, module, apply):
        self.user_apply, self.name = apply, type(module).__name__
        self.calls, self.graphs = {}, {}
        for train in (True, False):
            twin = _in_mode(module, train)
            if apply is None:
                self.calls[train] = flags.read_call(twin, "rngs")
            else:
                flags.check_apply(apply)
            self.graphs[train], *arrays = nnx.split(twin, trainable, ...)
            params, state = jax.tree.map(plain_array, arrays)
        self.structure = jax.tree.structure(params)
        self.has_streams = any(isinstance(v, nnx.RngState) for v in _variables_of(state))
        self.variables = Variables(_pure(params), state)

    def merge(self, variables, train):
        params = jax.tree.unflatten(self.structure, jax.tree.leaves(variables.params))
        return nnx.merge(self.graphs[train], params, variables.state, copy=True)

    def apply(self, variables, inputs, *, train=False, key=None):
        if train and key is not None:
            variables = variables._replace(state=_reseed(variables.state, key))
        network = self.merge(variables, train)
        output = _without_sowing(self._call, network)(network, inputs, train, key)
        return flags.logits_of(output, network), self._moved(network, variables.state)

    def _call(self, network, inputs, train, key):
        if self.user_apply is not None:
            return self.user_apply(network, inputs, train)
        random = {
            name: _randomness(name, key)
            for name, needed in self.calls[train].randomness.items()
            if needed or (train and key is not None and not self.has_streams)
        }
        args, kwargs = self.calls[train].arguments(train, random)
        return network(inputs, *args, **kwargs)

    def _moved(self, network, before):
        """The state after a call, without what was sown."""
        _, _, state = nnx.split(network, trainable, ...)
        after, moved = dict(nnx.to_flat_state(state)), {}
        for path, old in dict(nnx.to_flat_state(before)).items():
            new = fitted(jax.tree.leaves(after.pop(path, None)), jax.tree.leaves(old))
            new = jax.tree.leaves(old) if new is None and _is_sown(old) else new
            if new is None:
                raise UserError(
                    f"a forward pass changes the shape or type of {_name(path)!r}, "
                    f"{_kind(old)}, so that no step can follow another. Keep its shape."
                )
            moved[path] = jax.tree.unflatten(jax.tree.structure(old), new)
        for path, new in after.items():
            if isinstance(new, nnx.Variable) and not _is_sown(new):
                raise UserError(
                    f"a forward pass adds {_name(path)!r}, {_kind(new)}, to the network, so that "
                    "its state would grow. Make it in the network's __init__."
                )
        return nnx.from_flat_state(moved)


def _in_mode(module, train):
    """A copy of the module in training or evaluation, without what it has sown."""
    twin = nnx.clone(module)
    nnx.pop(twin, nnx.Intermediate)
    layers = [layer for _, layer in nnx.iter_modules(twin)]
    for layer in layers:
        _call_own_methods(layer, train)
    configs = {}
    for layer in layers:
        for name, in_training in flags.TRAINING_VALUES.items():
            _set_flag(layer, name, in_training == train)
        _set_flags_of_configs(layer, train, configs)
    return twin


def _set_flags_of_configs(layer, train, memo):
    """Sets the flags in data classes and dicts that are attributes of a layer."""

    def clone(value, each):
        is_part = isinstance(value, nnx.Module | nnx.Variable)
        return value if is_part else flags.with_fields_rewritten(value, each, train)

    for name, value in list(vars(layer).items()):
        new = value if name.startswith("_") else flags.rewritten(value, train, clone, memo)
        if new is not value:
            setattr(layer, name, new)


def _set_flag(layer, name, value):
    old = getattr(layer, name, None)
    optional = name in ("deterministic", "use_running_average") and hasattr(layer, name)
    owner = getattr(type(layer), name, None)
    if isinstance(owner, property) and owner.fset is None:
        return
    if flags.is_bool(old) or (optional and old is None):
        setattr(layer, name, value)


def _call_own_methods(layer, train):
    """Calls the `train()`, `eval()` and `set_view()` that a module's class brings itself."""
    kind, name = type(layer), "train" if train else "eval"
    method: Any = getattr(kind, name, None)
    is_own = inspect.isfunction(method) and method is not getattr(nnx.Module, name)
    if is_own and not _required(inspect.signature(method))[1:]:
        method(layer)
    if inspect.isfunction(getattr(kind, "set_view", None)):
        names = inspect.signature(kind.set_view).parameters
        known = {n: train == v for n, v in flags.TRAINING_VALUES.items() if n in names}
        if known:
            layer.set_view(**known)


def _required(signature):
    return [p for p in signature.parameters.values() if p.default is p.empty and p.kind < 2]


def trainable(path: Any, value: Any) -> bool:
    """Whether a variable of a module is trained; a filter for `nnx.split`."""
    del path
    leaves = jax.tree.leaves(value)
    return isinstance(value, nnx.Param) and bool(leaves) and all(map(is_trainable, leaves))


def _pure(state):
    """A nested dict of the arrays, by their paths."""
    pure = {}
    for path, variable in nnx.to_flat_state(state):
        node = pure
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = variable.get_raw_value()
    same = all(a is b for a, b in zip(jax.tree.leaves(pure), jax.tree.leaves(state), strict=True))
    assert same, "the leaves of both come in one order"
    return pure


def _reseed(state, key):
    """The state with a new value, made from `key`, for every random key in it."""
    variables, structure = jax.tree.flatten(state, is_leaf=_is_variable)
    key, count = _typed(key), 0
    for i, variable in enumerate(variables):
        leaves, inner = jax.tree.flatten(variable)
        is_raw = isinstance(variable, nnx.RngKey)
        for j, leaf in enumerate(leaves):
            leaves[j] = _new_key(leaf, jax.random.fold_in, key, count, is_raw)
            count += 1
        variables[i] = jax.tree.unflatten(inner, leaves)
    return jax.tree.unflatten(structure, variables)


def _new_key(leaf, fold_in, key, index, is_raw):
    """A new value of a random key, of its own implementation; other arrays stay."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key, kind = fold_in(key, index), jax.random.key_impl(leaf)
        if jax.random.key_impl(key) == kind:
            return jax.random.split(key, leaf.shape)
        shape = jax.eval_shape(jax.random.key_data, leaf).shape
        return jax.random.wrap_key_data(jax.random.bits(key, shape), impl=kind)
    return jax.random.bits(fold_in(key, index), leaf.shape, leaf.dtype) if is_raw else leaf


def _typed(key):
    is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if is_typed else jax.random.wrap_key_data(key)


def _randomness(name, key):
    """The value of an argument that takes a key or streams; the same in every evaluation."""
    key = jax.random.key(0) if key is None else _typed(key)
    return nnx.Rngs(key) if name == "rngs" else key


def _without_sowing(call, network):
    """`call`, whose modules drop what they sow, where this release of Flax can do that.

    It cannot where there are modules of Linen: these read every attribute.
    """
    bridged = any(isinstance(m, nnx.bridge.ToNNX) for _, m in nnx.iter_modules(network))
    return nnx.capture(call) if hasattr(nnx, "capture") and not bridged else call


def _is_sown(variable):
    """Whether a variable was sown: sowing appends to a tuple."""
    return isinstance(variable, nnx.Intermediate) or (
        isinstance(variable, nnx.Variable) and isinstance(variable.get_raw_value(), tuple)
    )


def _switched(module):
    """Names of the layers that ought to act differently in training, by kind."""
    found = {}
    for path, layer in nnx.iter_modules(module):
        kind = switched_kind(layer, len(list(nnx.iter_modules(layer))) > 1)
        if kind:
            found.setdefault(kind, _name(path) or type(layer).__name__)
    for path, variable in nnx.to_flat_state(nnx.state(module, nnx.BatchStat)):
        if math.prod(jnp.shape(jax.tree.leaves(variable)[0])):
            found.setdefault("batch_norm", _name(path))
    return found


def _variables_of(state):
    return jax.tree.leaves(state, is_leaf=_is_variable)


def _is_variable(value: Any):
    return isinstance(value, nnx.Variable)


def _name(path):
    return "/".join(map(str, path))


def _kind(variable):
    kind = type(variable)
    return f"a {kind.__name__}"
