"""Linen and NNX networks as pairs of pure functions, and built-in networks by name."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.types import Variables

INPUTS = jax.random.normal(jax.random.key(5), (16, 6))
KEYS = jax.random.split(jax.random.key(6), 2)


def layers(x, train):
    """BatchNorm comes first: its statistics are those of the inputs."""
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(8, name="dense")(x))
    return nn.Dense(3, name="head")(x)


CALLS = {
    "train": lambda self, x, train: layers(x, train),
    "training": lambda self, x, training=True: layers(x, training),
    "is_training": lambda self, x, *, is_training: layers(x, is_training),
    "deterministic": lambda self, x, deterministic=False: layers(x, not deterministic),
    "use_running_average": lambda self, x, use_running_average: layers(x, not use_running_average),
}
LINEN = [
    type(keyword, (nn.Module,), {"__call__": nn.compact(call)}) for keyword, call in CALLS.items()
]
Train = LINEN[0]


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.dense = nnx.Linear(6, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.drop(self.dense(self.norm(x))))


def adapted(network):
    if network is NnxNet:
        return models.from_nnx(NnxNet(nnx.Rngs(0)))
    model = models.from_linen(network())
    return model, model.init(jax.random.key(0), INPUTS)


def assert_statistics_moved(before, after):
    """Running statistics start at (0, 1) and keep 0.9 of their value."""
    np.testing.assert_array_equal(before["mean"], np.zeros(6))
    np.testing.assert_allclose(after["mean"], 0.1 * INPUTS.mean(0), atol=1e-6)
    np.testing.assert_allclose(after["var"], 0.9 + 0.1 * INPUTS.var(0), atol=1e-6)


@pytest.mark.parametrize("network", [*LINEN, NnxNet])
def test_evaluation_has_no_dropout_and_leaves_the_state(network):
    model, variables = adapted(network)
    logits, state = model.apply(variables, INPUTS, train=False, key=None)
    chex.assert_trees_all_equal(state, variables.state)
    kernels = [variables.params[name]["kernel"] for name in ("dense", "head")]
    np.testing.assert_allclose(
        logits, INPUTS / np.sqrt(1 + 1e-5) @ kernels[0] @ kernels[1], atol=1e-5
    )


@pytest.mark.parametrize("network", LINEN)
def test_linen_trains_with_dropout_and_moves_its_state(network):
    model, variables = adapted(network)
    one, state = model.apply(variables, INPUTS, train=True, key=KEYS[0])
    again, _ = model.apply(variables, INPUTS, train=True, key=KEYS[0])
    other, _ = model.apply(variables, INPUTS, train=True, key=KEYS[1])
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert_statistics_moved(*(s["batch_stats"]["norm"] for s in (variables.state, state)))


def test_linen_without_state_or_keyword():
    model = models.from_linen(models.MLP((4, 3)))
    variables = model.init(jax.random.key(0), INPUTS)
    train, evaluated = (model.apply(variables, INPUTS, train=t, key=None) for t in (True, False))
    assert variables.state == train[1] == evaluated[1] == {}
    np.testing.assert_array_equal(train[0], evaluated[0])


def test_linen_export_is_the_modules_variable_dict():
    module = Train()
    collections = module.init(jax.random.key(0), INPUTS, train=False)
    model, variables = models.adapt(module, collections)
    assert set(variables.state) == {"batch_stats"}
    chex.assert_trees_all_equal(model.export(variables), collections)


def test_nnx_trains_with_dropout_and_moves_its_state():
    model, variables = adapted(NnxNet)
    one, state = model.apply(variables, INPUTS, train=True)
    again, _ = model.apply(variables, INPUTS, train=True)
    later, _ = model.apply(variables._replace(state=state), INPUTS, train=True)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, later), "the stream of dropout travels in the state"
    assert_statistics_moved(*(nnx.to_pure_dict(s)["norm"] for s in (variables.state, state)))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_nnx_module_itself_does_not_change(mode):
    module = NnxNet(nnx.Rngs(0))
    getattr(module, mode)()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    count, mean = int(module.drop.rngs.count[...]), np.asarray(module.norm.mean[...])
    model, variables = models.adapt(module)
    model.apply(variables, INPUTS, train=True)
    exported = model.export(variables)
    exported.head.bias[...] = jnp.ones(3)
    chex.assert_trees_all_equal(before, nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    assert int(module.drop.rngs.count[...]) == count
    np.testing.assert_array_equal(module.norm.mean[...], mean)
    assert module.drop.deterministic == module.norm.use_running_average == (mode == "eval")
    assert float(variables.params["head"]["bias"].sum()) == 0


def test_nnx_export_holds_the_new_arrays():
    model, variables = models.from_nnx(NnxNet(nnx.Rngs(0)))
    _, state = model.apply(variables, INPUTS, train=True)
    new = Variables(jax.tree.map(lambda leaf: leaf + 0.5, variables.params), state)
    exported = model.export(new)
    assert isinstance(exported, NnxNet)
    np.testing.assert_array_equal(exported.dense.kernel[...], new.params["dense"]["kernel"])
    np.testing.assert_array_equal(exported(INPUTS), model.apply(new, INPUTS, train=False)[0])
    assert not np.allclose(exported(INPUTS), model.apply(variables, INPUTS, train=False)[0])


def test_nnx_layers_in_a_list():
    sequence = nnx.Sequential(nnx.Linear(6, 4, rngs=nnx.Rngs(0)), nnx.relu)
    model, variables = models.adapt(sequence)
    np.testing.assert_array_equal(model.apply(variables, INPUTS)[0], sequence(INPUTS))


@pytest.mark.parametrize("network", [Train, NnxNet])
def test_jit_grad_and_vmap(network):
    model, variables = adapted(network)

    def loss(params, inputs, key):
        logits, state = model.apply(variables._replace(params=params), inputs, train=True, key=key)
        return (logits**2).mean(), state

    gradient = jax.jit(jax.grad(loss, has_aux=True))
    batches = jnp.stack([INPUTS, 2 * INPUTS + 1])
    mapped, _ = jax.vmap(gradient, in_axes=(None, 0, 0))(variables.params, batches, KEYS)
    for i in range(2):
        one, _ = gradient(variables.params, batches[i], KEYS[i])
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], mapped), one, atol=1e-5)
        assert all(float(jnp.abs(one[name]["kernel"]).max()) > 1e-3 for name in ("dense", "head"))


def test_adapt_takes_a_model_as_it_is():
    model, variables = models.from_linen(models.MLP((3,))), Variables({}, {})
    assert models.adapt(model, variables) == (model, variables)


@pytest.mark.parametrize(
    ("network", "variables", "message"),
    [
        (Train(), None, r"needs its trained variables; write variables=\{'params': params"),
        (Train(), {"batch_stats": 0, "aux": 0}, r"got keys \['aux', 'batch_stats'\]\. Write var"),
        (Train(), [1], r"'params' collection, .* got list\. Write variables=\{'params': params\}"),
        (NnxNet(nnx.Rngs(0)), {}, "NNX module holds its own variables; leave out `variables`"),
        (models.from_linen(Train()), {"params": 0}, r"needs variables=bap_jax\.Variables\("),
        (NnxNet, None, r"expected a flax\.nnx\.Module.* got the class NnxNet\."),
        (len, None, r"expected a flax\.nnx\.Module.*bap_jax Model; got builtin_function"),
    ],
)
def test_what_cannot_be_adapted(network, variables, message):
    with pytest.raises(UserError, match=message):
        models.adapt(network, variables)


def complex_linear():
    return nnx.Linear(6, 3, param_dtype=jnp.complex64, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("network", "variables", "name"),
    [
        (complex_linear(), None, "bias"),
        (nnx.Sequential(complex_linear(), jnp.abs), None, "layers/0/bias"),
        (nn.Dense(3), {"params": {"kernel": jnp.ones((6, 3), jnp.complex64)}}, "kernel"),
    ],
)
def test_complex_parameters_are_refused(network, variables, name):
    """Their gradients are conjugates, with which no step descends."""
    text = f"the parameter '{name}' is complex64, .* Hold its real and its imaginary part as two"
    with pytest.raises(UserError, match=text):
        models.adapt(network, variables)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn", {}, r"unknown model 'cnn'; known models: mlp, resnet, imagenet_resnet, mobile"),
        ("mlp", {"depth": 3}, r"model 'mlp' cannot be built with \{'depth': 3\}: .*'depth'"),
        ("mlp", {"hidden": 3}, r"model 'mlp' cannot be built with \{'hidden': 3\}"),
    ],
)
def test_what_cannot_be_built(name, options, message):
    with pytest.raises(UserError, match=message):
        models.build(name, 10, **options)


def test_mlp_of_the_digits_has_85002_parameters():
    """64·256 + 256 + 256·256 + 256 + 256·10 + 10, with images flattened."""
    shapes = jax.eval_shape(models.build("mlp", 10).init, KEYS[0], jnp.zeros((1, 8, 8)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes.params)) == 85002


def test_nnx_dropout_follows_the_key():
    """Two layers of one stream drop different units; equal keys drop equal ones."""

    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Dropout(0.5, rngs=rngs)
            self.two = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return jnp.stack([self.one(x), self.two(x)])

    model, variables = models.from_nnx(Twice(nnx.Rngs(0)))
    x = jnp.ones(64)
    one, again, other = (
        model.apply(variables, x, train=True, key=key)[0] for key in (KEYS[0], KEYS[0], KEYS[1])
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any() and (one[0] != one[1]).any()
