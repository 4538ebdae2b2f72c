"""Flags that switch a network to training, and the errors where none can be found."""

import dataclasses
import functools
import types
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.models import flags
from tests.models.linen_networks import LinenArgument, LinenLayers
from tests.models.networks import INPUTS, KEY
from tests.models.nnx_networks import Layers

X = INPUTS["vectors"]
KEYS = jax.random.split(KEY)


def checked(network, apply=None, inputs=X):
    """The adapted network, after its check."""
    variables = None
    if isinstance(network, nn.Module):
        method = apply and (lambda module, x: apply(module, x, False))
        variables = network.init(KEY, inputs, method=method)
    model, variables = models.adapt(network, variables, apply)
    models.check_modes(model, variables, inputs)
    return model, variables


def moved(model, variables):
    """Whether a training step moves floating-point arrays of the state."""
    _, state = model.apply(variables, X, train=True, key=KEY)
    pairs = zip(*map(jax.tree.leaves, (variables.state, state)), strict=True)
    return any(np.any(a != b) for a, b in pairs if jnp.issubdtype(a.dtype, jnp.floating))


@pytest.mark.parametrize("name", flags.TRAINING_VALUES)
@pytest.mark.parametrize("kind", ["argument", "attribute", "Linen argument", "Linen attribute"])
def test_every_name_is_found(name, kind):
    """Otherwise the check says that the statistics stand still, or move in evaluation."""
    checked(NAMED[kind](name, not flags.TRAINING_VALUES[name]))


class Normed(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.last = nnx.Linear(6, 3, rngs=rngs)


def nnx_argument(name, default):
    source = (
        f"def __call__(self, x, {name}={default}):\n"
        f"    return self.last(self.norm(x, use_running_average={name} == {default}))"
    )
    return class_of(Normed, source)(nnx.Rngs(0))


def nnx_attribute(name, default):
    source = (
        "def __call__(self, x):\n"
        f"    still = self.{name} == {default}\n"
        "    return self.last(self.norm(x, use_running_average=still))"
    )
    network = class_of(Normed, source)(nnx.Rngs(0))
    setattr(network, name, default)
    return network


def linen_argument(name, default):
    source = (
        "@nn.compact\n"
        f"def __call__(self, x, *, {name}={default}):\n"
        f"    return nn.Dense(3)(nn.BatchNorm(use_running_average={name} == {default})(x))"
    )
    return class_of(nn.Module, source)()


def linen_attribute(name, default):
    source = (
        f"{name}: bool = {default}\n"
        "@nn.compact\n"
        "def __call__(self, x):\n"
        f"    return nn.Dense(3)(nn.BatchNorm(use_running_average=self.{name} == {default})(x))"
    )
    return class_of(nn.Module, source)()


def class_of(base, source):
    scope = {"nn": nn, "base": base, "__name__": __name__}
    body = "\n".join(f"    {line}" for line in source.splitlines())
    exec(f"class Made(base):\n{body}", scope)
    return scope["Made"]


NAMED = {
    "argument": nnx_argument,
    "attribute": nnx_attribute,
    "Linen argument": linen_argument,
    "Linen attribute": linen_attribute,
}


class Stuck(Layers):
    """Its flag has a name that nobody can guess."""

    def __call__(self, x, learning=False):
        return self.run(x, learning)


class StuckDropout(nnx.Module):
    def __init__(self, rngs):
        self.path = nnx.Dict(drop=nnx.Dropout(0.2, rngs=rngs))
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x, phase="use"):
        return self.last(self.path.drop(x, deterministic=phase == "use"))


class LinenStuck(LinenLayers):
    @nn.compact
    def __call__(self, x, learning=False):
        return self.run(x, learning)


class LinenStuckDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.Dropout(0.2, deterministic=True)(x))


class StuckAttention(nn.Module):
    @nn.compact
    def __call__(self, x):
        attend = nn.MultiHeadDotProductAttention(2, dropout_rate=0.1, deterministic=True)
        return nn.Dense(3)(attend(x).mean(1))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Stuck(nnx.Rngs(0)), r"batch normalisation \(norm\)"),
        (lambda: StuckDropout(nnx.Rngs(0)), r"dropout \(path/drop\)"),
        (LinenStuck, r"dropout \(Dropout_0\)"),
        (LinenStuckDropout, r"dropout \(Dropout_0\)"),
    ],
)
def test_training_that_is_evaluation(make, found):
    with pytest.raises(UserError, match=f"computes the same in training.*{found}.*apply=lambda"):
        checked(make())


def test_attention_that_never_drops():
    with pytest.raises(UserError, match=r"dropout \(MultiHeadDotProductAttention_0\)"):
        checked(StuckAttention(), inputs=INPUTS["sequences"])


@pytest.mark.parametrize(
    "network",
    [
        lambda: nnx.Sequential(nnx.Dropout(0.0), nnx.Linear(6, 3, rngs=nnx.Rngs(0))),
        lambda: nn.Sequential([nn.Dropout(0.0, deterministic=True), nn.Dense(3)]),
        lambda: nn.Sequential([nn.Dense(3), nn.LayerNorm()]),
    ],
)
def test_inactive_layers_need_no_flag(network):
    assert not moved(*checked(network()))


def test_apply_serves_any_convention_and_is_believed():
    for network in (Stuck(nnx.Rngs(0)), LinenStuck()):
        learns = checked(network, lambda module, x, train: module(x, learning=train))
        assert moved(*learns)
        frozen = checked(network, lambda module, x, train: module(x))
        assert not moved(*frozen)
        one, other = (frozen[0].apply(frozen[1], X, train=True, key=key)[0] for key in KEYS)
        np.testing.assert_array_equal(one, other)


def test_one_of_two_that_does_nothing_is_a_warning():
    class Half(Layers):
        def __call__(self, x, train=False):
            x = self.norm(self.first(x), use_running_average=not train)
            return self.last(self.drop(x, deterministic=True))

    with pytest.warns(UserWarning, match=r"dropout \(drop\) does nothing in training.*apply=lam"):
        checked(Half(nnx.Rngs(0)))


class Always(nnx.Module):
    """Dropout whatever is asked."""

    def __init__(self, rngs):
        self.drop, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(x, deterministic=False))


class LinenAlways(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.Dropout(0.5)(x, deterministic=False))


class LinenNoise(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x + jax.random.normal(self.make_rng("noise"), x.shape))


class AlwaysMoves(Layers):
    def __call__(self, x, train=False):
        x = self.norm(self.first(x), use_running_average=False)
        return self.last(self.drop(x, deterministic=not train))


class LinenAlwaysMoves(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Always(nnx.Rngs(0)), "logits are random in evaluation"),
        (LinenNoise, "logits are random in evaluation"),
        (lambda: AlwaysMoves(nnx.Rngs(0)), "changes 'norm/mean' in evaluation"),
        (LinenAlwaysMoves, 'state in evaluation: Cannot update variable "mean".*batch_stats'),
    ],
)
def test_evaluation_that_is_training(make, message):
    network = make()
    with pytest.raises(UserError, match=f"{message}.*apply=lambda"):
        if isinstance(network, nn.Module):
            rngs = {"params": KEY, "dropout": KEY, "noise": KEY}
            variables = network.init(rngs, X)
            model, variables = models.adapt(network, variables)
            models.check_modes(model, variables, X)
        else:
            checked(network)


def test_random_in_evaluation_although_linen_is_asked_for_dropout():
    model, variables = models.adapt(LinenAlways(), LinenAlways().init(KEY, X))
    with pytest.raises(UserError, match="logits are random in evaluation"):
        models.check_modes(model, variables, X)


class NeedsMask(nnx.Module):
    def __call__(self, x, mask):
        return x * mask


class LinenNeedsMask(nn.Module):
    @nn.compact
    def __call__(self, x, mask, train):
        return x


class Encoder(nnx.Module):
    def encode(self, x):
        return x


@pytest.mark.parametrize("make", [NeedsMask, LinenNeedsMask])
def test_arguments_that_nothing_is_known_about(make):
    with pytest.raises(UserError, match=r"also needs 'mask'.*apply=lambda.*a dict of arrays"):
        models.adapt(make(), {"params": {}} if issubclass(make, nn.Module) else None)


def test_a_network_without_a_call():
    with pytest.raises(UserError, match=r"Encoder has no __call__.*module\.METHOD\(inputs\)"):
        models.adapt(Encoder())
    assert models.adapt(Encoder(), apply=lambda module, x, train: module.encode(x))


@pytest.mark.parametrize("apply", [3, lambda x: x, lambda module, x: x])
def test_an_apply_that_cannot_be_called(apply):
    with pytest.raises(UserError, match=r"apply must be a function \(module, inputs, train\)"):
        models.adapt(Encoder(), apply=apply)


def test_a_model_has_its_own_apply():
    model, variables = models.adapt(nnx.Linear(6, 3, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="leave out `apply`"):
        models.adapt(model, variables, lambda module, x, train: module(x))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: (x, x), r"got a tuple of 2.*apply=lambda.*module\(inputs\)\[0\]"),
        (lambda x: [x], r"got a list of 1.*apply=lambda.*module\(inputs\)\[0\]"),
        (
            lambda x: {"logits": x, "hidden": x},
            r"got a dict of 2 with logits, hidden.*apply=lambda.*module\(inputs\)\['logits'\]",
        ),
        (
            lambda x: types.SimpleNamespace(logits=x),
            r"got SimpleNamespace.*apply=lambda.*module\(inputs\)\.logits",
        ),
        (lambda x: None, "got NoneType.*apply=lambda"),
    ],
)
def test_outputs_that_are_not_logits(output, message):
    class Network(nnx.Module):
        def __call__(self, x):
            return output(x)

    class LinenNetwork(nn.Module):
        @nn.compact
        def __call__(self, x):
            return output(nn.Dense(3)(x))

    for network in (Network(), LinenNetwork()):
        with pytest.raises(UserError, match=rf"one array of logits; {message}"):
            checked(network)
    logits, _ = checked(Network(), lambda module, x, train: x * 2)[0].apply(
        models.adapt(Network())[1], X
    )
    np.testing.assert_array_equal(logits, X * 2)


def test_an_optional_key_is_given_in_training_unless_it_is_one_of_attention():
    class Noisy(nnx.Module):
        def __call__(self, x, key=None):
            return x if key is None else x + jax.random.normal(key, x.shape)

    class Attends(nnx.Module):
        def __call__(self, x, key=None, value=None):
            assert key is None
            return x

    for make, is_random in ((Noisy, True), (Attends, False)):
        model, variables = checked(make())
        outputs = [model.apply(variables, X, train=True, key=key)[0] for key in KEYS]
        assert (outputs[0] != outputs[1]).any() == is_random
        np.testing.assert_array_equal(model.apply(variables, X, train=False)[0], X)


def test_a_linen_module_inside_nnx():
    bridged = nnx.bridge.ToNNX(LinenArgument(), rngs=nnx.Rngs(0))
    bridged = nnx.bridge.lazy_init(bridged, X)
    with pytest.raises(UserError, match=r"fails in|computes the same"):
        checked(bridged)
    changes = lambda train: ["batch_stats"] if train else False  # noqa: E731
    said = lambda module, x, train: module(x, train=train, mutable=changes(train))  # noqa: E731
    assert moved(*checked(bridged, said))


def test_the_flag_of_a_layer_that_is_shared_stays_shared():
    class Twice(nn.Module):
        one: nn.Module
        other: nn.Module

        def __call__(self, x):
            return self.other(self.one(x))

    layer = nn.Sequential([nn.BatchNorm(use_running_average=True), nn.Dense(6)])
    model, variables = checked(Twice(layer, layer))
    assert list(variables.params) == ["one"]
    assert moved(model, variables)


def test_a_partial_class_with_a_flag():
    class Network(nn.Module):
        norm: functools.partial

        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(self.norm(name="norm")(x))

    network = Network(functools.partial(nn.BatchNorm, use_running_average=True))
    assert moved(*checked(network))
    assert network.norm.keywords == {"use_running_average": True}


@dataclasses.dataclass(frozen=True)
class Config:
    deterministic: bool = True
    width: int = 3


class LinenConfigured(nn.Module):
    config: Any

    @nn.compact
    def __call__(self, x):
        is_dict = isinstance(self.config, Mapping)
        off = self.config["deterministic"] if is_dict else self.config.deterministic
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=off)(x))


class Configured(nnx.Module):
    def __init__(self, config):
        rngs = nnx.Rngs(0)
        self.config, self.drop = config, nnx.Dropout(0.5, rngs=rngs)
        self.linear = nnx.Linear(X.shape[-1], 3, rngs=rngs)

    def __call__(self, x):
        is_dict = isinstance(self.config, Mapping)
        off = self.config["deterministic"] if is_dict else self.config.deterministic
        return self.linear(self.drop(x, deterministic=off))


@pytest.mark.parametrize("config", [Config(), {"deterministic": True}], ids=["data class", "dict"])
@pytest.mark.parametrize("make", [LinenConfigured, Configured])
def test_the_flag_of_a_config_is_set(make, config):
    network = make(config)
    model, variables = checked(network)
    one, other = (model.apply(variables, X, train=True, key=key)[0] for key in KEYS)
    assert (one != other).any()
    assert network.config == config


def test_a_flag_that_is_not_a_bool_is_left_alone():
    class Network(nnx.Module):
        def __init__(self, rngs):
            self.test = jnp.ones(6)
            self.evaluation = nnx.Linear(6, 3, rngs=rngs)

        def __call__(self, x, eval=2.0):
            return self.evaluation(x * self.test[None] * eval)

    model, variables = checked(Network(nnx.Rngs(0)))
    np.testing.assert_allclose(
        model.apply(variables, X)[0], Network(nnx.Rngs(0))(X), rtol=1e-6, atol=1e-6
    )


def test_a_read_only_flag_is_left_alone():
    class WithProperty(Layers):
        active = False

        @property
        def training(self):
            return self.active

        def __call__(self, x):
            return self.run(x, self.training)

    with pytest.raises(UserError, match="computes the same"):
        checked(WithProperty(nnx.Rngs(0)))


def test_views_of_a_module_that_sets_its_own_flags():
    class Viewed(Layers):
        def set_view(self, training=None):
            self.learning = bool(training)

        def __call__(self, x):
            return self.run(x, self.learning)

    assert moved(*checked(Viewed(nnx.Rngs(0))))


def test_built_in_networks_are_not_checked():
    model = models.build("mlp", 3, hidden=(4,))
    assert model.switched is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        models.check_modes(model, model.init(KEY, X), X)


def test_linen_of_one_flag_in_every_mode_is_the_module_itself():
    network = LinenArgument()
    assert flags.rewritten(network, True, lambda value, each: value, {}) is network
