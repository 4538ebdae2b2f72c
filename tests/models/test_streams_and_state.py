"""Random streams of any name and implementation; arrays that a forward pass adds or changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core, nnx, serialization
from flax import linen as nn

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.models.nnx import _reseed
from bap_jax.trees import leaf_paths
from tests.models.linen_networks import DropsPaths, LinenPartitioned, LinenSowing
from tests.models.networks import INPUTS, KEY
from tests.models.nnx_networks import Sowing

X = INPUTS["vectors"]
KEYS = jax.random.split(KEY)
IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


class TwoStreams(nn.Module):
    """Two streams of names of its own, the first of them Flax's default."""

    @nn.compact
    def __call__(self, x, train=False):
        one, other = jnp.zeros(()), jnp.zeros(())
        if train:
            one, other = (
                jax.random.normal(self.make_rng(name), x.shape) for name in ("params", "noise")
            )
        return nn.Dense(3)(x) + one.sum() + 0 * other.sum(), one, other


def test_streams_of_any_name_differ_and_follow_the_key():
    network = TwoStreams()
    model, variables = models.adapt(
        network, network.init(KEY, X), lambda module, x, train: jnp.stack(module(x, train)[1:])
    )
    one, again, other = (
        model.apply(variables, X, train=True, key=key)[0] for key in (KEYS[0], KEYS[0], KEYS[1])
    )
    np.testing.assert_array_equal(one, again)
    assert (one[0] != one[1]).all() and (one != other).all()


class AsksFirst(nn.Module):
    """Asks whether there is a stream, and is random only then."""

    @nn.compact
    def __call__(self, x):
        if self.has_rng("noise"):
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not self.has_rng("dropout"))(x))


def test_a_stream_that_is_asked_for_is_there_in_training_alone():
    asked, silent = AsksFirst(), nn.Dense(3)
    variables = asked.init(KEY, X)
    model, arrays = models.adapt(asked, variables)
    models.check_modes(model, arrays, X)
    one, other = (model.apply(arrays, 0 * X, train=True, key=key)[0] for key in KEYS)
    assert (one != other).any()
    own = silent.apply({"params": variables["params"]["Dense_0"]}, X)
    np.testing.assert_array_equal(model.apply(arrays, X, train=False, key=None)[0], own)
    np.testing.assert_array_equal(model.apply(arrays, X, train=True, key=None)[0], own)


def test_a_new_stream_leaves_the_masks_of_dropout_alone():
    """A network with `drop_path` drops the same units as without it."""

    class Dropped(nn.Module):
        both: bool

        @nn.compact
        def __call__(self, x, train=False):
            scale = self.param("scale", nn.initializers.ones, ())
            x = scale * nn.Dropout(0.5, deterministic=not train, name="drop")(jnp.ones_like(x))
            return x + 0 * jax.random.normal(self.make_rng("drop_path")) if self.both else x

    outputs = []
    for both in (True, False):
        model = models.from_linen(Dropped(both))
        outputs.append(model.apply(model.init(KEY, X), X, train=True, key=KEYS[0])[0])
    np.testing.assert_array_equal(*outputs)


def test_a_stream_that_a_network_uses_only_if_it_is_there():
    """Such a network asks `has_rng` to find out whether it is training."""

    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x):
            scale = self.param("scale", nn.initializers.ones, ())
            if self.has_rng("params"):  # an idiom for "in init"
                return scale * x
            for name in ("noise", "drop_path"):
                if self.has_rng(name):
                    x = x + jax.random.normal(self.make_rng(name), x.shape)
            return scale * x

    original = nn.Module.has_rng
    model = models.from_linen(Noisy())
    variables = model.init(KEY, X)
    one, again, other = (
        model.apply(variables, X, train=True, key=key)[0] for key in (KEYS[0], KEYS[0], KEYS[1])
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).all() and (one != X).all()
    np.testing.assert_array_equal(model.apply(variables, X, train=False, key=None)[0], X)
    assert nn.Module.has_rng is original


def test_training_without_a_key_says_which_stream_is_missing():
    model = models.from_linen(DropsPaths())
    with pytest.raises(Exception, match='needs PRNG for "drop_path"'):
        model.apply(model.init(KEY, X), X, train=True)


@pytest.mark.parametrize("own", IMPLEMENTATIONS)
@pytest.mark.parametrize("step", IMPLEMENTATIONS)
def test_keys_keep_their_implementation(own, step):
    keys = jax.random.split(jax.random.key(0, impl=own), 3)
    state = nnx.State({"one": nnx.RngKey(keys[0], tag="a"), "more": nnx.RngKey(keys, tag="a")})
    one, other = (_reseed(state, key) for key in jax.random.split(jax.random.key(1, impl=step)))
    for new in (one, other):
        assert jax.tree.structure(new) == jax.tree.structure(state)
        for before, after in zip(*map(jax.tree.leaves, (state, new)), strict=True):
            assert before.dtype == after.dtype and before.shape == after.shape
    every = [jax.random.key_data(leaf).reshape(-1) for leaf in jax.tree.leaves((one, other))]
    assert len({tuple(np.array(words)) for words in every}) == len(every)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_raw_keys_and_other_defaults(implementation):
    with jax.default_prng_impl(implementation):
        raw = jax.random.PRNGKey(0)
        state = nnx.State({"raw": nnx.RngKey(raw, tag="a"), "count": nnx.RngCount(raw, tag="a")})
        for key in (jax.random.PRNGKey(1), jax.random.key(1)):
            new = jax.jit(_reseed)(state, key)
            assert (new["raw"][...] != raw).any() and new["raw"].dtype == raw.dtype
            np.testing.assert_array_equal(new["count"][...], raw)
            jax.random.normal(new["raw"][...])


class Grows(nnx.Module):
    """What it does to itself is an argument."""

    def __init__(self, act):
        self.act, self.cache = act, nnx.Cache(jnp.zeros((1, 6)))
        self.last = nnx.Linear(6, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        self.act(self, x)
        return self.last(x)


def enlarge(network, x):
    network.cache.set_value(jnp.concatenate([network.cache[...], x]))


def retype(network, x):
    network.cache.set_value(x[:1].astype(int))


def add_statistics(network, x):
    network.late = nnx.BatchStat(x.mean())


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (enlarge, "changes the shape or type of 'cache', a Cache"),
        (retype, "changes the shape or type of 'cache', a Cache"),
        (add_statistics, r"adds 'late', a BatchStat, .*__init__"),
    ],
)
def test_nnx_state_that_grows(act, message):
    model, variables = models.adapt(Grows(act))
    with pytest.raises(UserError, match=message):
        model.apply(variables, X, train=True, key=KEY)


def keep_output(network, x):
    network.hidden, network.attend = nnx.Intermediate(x), nnx.Perturbation(x)


def test_outputs_that_a_network_keeps_are_dropped():
    """Also where it has been called before, so that it holds some already."""
    network = Grows(keep_output)
    network(X)
    model, variables = models.adapt(network)
    assert leaf_paths(variables.state) == ["cache"]
    _, state = jax.jit(lambda: model.apply(variables, X[:5], train=True, key=KEY))()
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    assert not hasattr(model.export(variables), "hidden") and hasattr(network, "hidden")


@pytest.mark.filterwarnings("ignore:Using 'Module.sow")
def test_a_network_that_has_sown_before():
    network = Sowing(nnx.Rngs(0))
    network(X), network(X)
    model, variables = models.adapt(network)
    _, state = model.apply(variables, X[:5], train=True, key=KEY)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)


class LinenGrows(nn.Module):
    """A cache that grows, or variables that exist only in training."""

    kind: str

    @nn.compact
    def __call__(self, x, train=False):
        if self.kind == "cache":
            cache = self.variable("cache", "rows", lambda: x)
            if train:
                cache.value = jnp.concatenate([cache.value, x])
        elif train:
            self.variable(self.kind, "late", jnp.zeros, (1,))
        nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(3)(x)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cache", "collection 'cache'.*module.init"),
        ("batch_stats", "collection 'batch_stats'.*module.init"),
        ("ema", 'fails in training: .*"?ema"?'),
    ],
)
def test_linen_state_that_grows(kind, message):
    network = LinenGrows(kind)
    model, variables = models.adapt(network, network.init(KEY, X))
    with pytest.raises(UserError, match=message):
        models.check_modes(model, variables, X)


def test_a_cache_for_one_token_after_another():
    class Decoder(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.MultiHeadDotProductAttention(2, decode=True)(x).mean(1))

    x = INPUTS["sequences"]
    model, variables = models.adapt(Decoder(), Decoder().init(KEY, x))
    with pytest.raises(UserError, match="fails in evaluation: Autoregressive cache.*apply=lambda"):
        models.check_modes(model, variables, x)


def test_what_linen_sows_is_neither_kept_nor_changed():
    """Of `init`, in which everything is sown, and of batches of another size."""
    network = LinenSowing()
    given = network.init(KEY, X[:2])
    model, variables = models.adapt(network, given)
    assert set(variables.state) == {"losses", "sums"} and set(given) > {"perturbations"}
    for x in (X, X[:3]):
        _, state = model.apply(variables, x, train=True, key=KEY)
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), state, variables.state))


def test_a_collection_that_changes_only_where_it_may():
    """Not mistaken for one that is sown, although something is sown into it, too."""

    class Averages(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            mean = self.variable("averages", "mean", jnp.zeros, (6,))
            if train and self.is_mutable_collection("averages"):
                mean.value = 0.9 * mean.value + 0.1 * x.mean(0)
            counter = self.variable("mixed", "steps", lambda: 0)
            if train:
                counter.value += 1
            self.sow("mixed", "last", x.sum(), reduce_fn=lambda a, b: b, init_fn=lambda: 0.0)
            return nn.Dense(3)(x - mean.value[None])

    model, variables = models.adapt(Averages(), Averages().init(KEY, X))
    _, state = model.apply(variables, X, train=True, key=KEY)
    np.testing.assert_allclose(state["averages"]["mean"], 0.1 * X.mean(0), rtol=1e-5, atol=1e-6)
    assert state["mixed"]["steps"] == 1
    assert nn.Module.sow.__qualname__ == "Module.sow"


def test_boxes_and_frozen_dicts_come_back():
    network = LinenPartitioned()
    given = core.freeze(network.init(KEY, X))
    model, variables = models.adapt(network, given)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables.params))
    assert leaf_paths(variables.params) == [
        f"Dense_{i}/{name}" for i in range(2) for name in ("bias", "kernel")
    ]
    back = model.export(variables._replace(params=jax.tree.map(jnp.zeros_like, variables.params)))
    assert isinstance(back, core.FrozenDict)
    assert back["params"]["Dense_0"]["kernel"].names == ("in", "out")
    assert not back["params"]["Dense_1"]["kernel"].value.any()
    assert jax.tree.structure(back) == jax.tree.structure(given)


def test_variables_from_a_file():
    """Arrays of NumPy and plain numbers, as files of weights hold them."""

    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(x) * self.param("scale", lambda key: jnp.float32(2))

    given = Scaled().init(KEY, X)
    loaded = serialization.msgpack_restore(serialization.to_bytes(given))
    loaded["params"]["scale"] = 2.0
    model, variables = models.adapt(Scaled(), loaded)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables.params)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(model.apply(variables, X)[0], Scaled().apply(given, X))


def test_sharded_weights_become_plain_arrays():
    mesh = jax.make_mesh((2,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.NamedSharding(mesh, jax.P(None, "model"))
    given = nn.Dense(4).init(KEY, X)
    kernel = jax.device_put(given["params"]["kernel"], spec)
    given = {"params": {**given["params"], "kernel": kernel}}
    _, variables = models.adapt(nn.Dense(4), given)
    for leaf in jax.tree.leaves(variables):
        assert len(leaf.devices()) == 1 and not leaf.committed
    np.testing.assert_array_equal(variables.params["kernel"], kernel)


class Hooked(nnx.Param):
    """Its value is three times the number that it holds."""

    def get_value(self, **kwargs):
        return 3 * super().get_value(**kwargs)


def test_parameters_that_transform_their_values():
    class Network(nnx.Module):
        def __init__(self):
            self.kernel = Hooked(jnp.ones((6, 3)))

        def __call__(self, x):
            return x @ self.kernel.get_value()

    network = Network()
    model, variables = models.adapt(network)
    np.testing.assert_array_equal(variables.params["kernel"], jnp.ones((6, 3)))
    for module in (network, model.export(variables)):
        np.testing.assert_array_equal(module(X), model.apply(variables, X)[0])
    np.testing.assert_allclose(network(X), 3 * X @ jnp.ones((6, 3)), rtol=1e-5, atol=1e-5)
