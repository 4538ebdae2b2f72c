"""Small networks in NNX of the kinds that people bring."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from tests.models.networks import BOTH, Case


class Layers(nnx.Module):
    """Linear, batch normalisation, dropout, linear; the subclass has the flag."""

    def __init__(self, rngs, rate=0.5):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def run(self, x, train):
        x = nnx.relu(self.norm(self.first(x), use_running_average=not train))
        return self.last(self.drop(x, deterministic=not train))


class PlainCall(Layers):
    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


class SingleLogit(Layers):
    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))[:, 0]


class TrainArgument(Layers):
    def __call__(self, x, train: bool = False):
        return self.run(x, train)


class RequiredPosition(Layers):
    def __call__(self, x, train, /):
        return self.run(x, train)


class InferenceArgument(Layers):
    def __call__(self, x, mask=None, *, inference=True):
        return self.run(x, not inference)


class TrainAttribute(Layers):
    """`train` hides the method of this name."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.train = False

    def __call__(self, x):
        return self.run(x, self.train)


class TrainingOfALayer(nnx.Module):
    class Layer(Layers):
        training = False

        def __call__(self, x):
            return self.run(x, self.training)

    def __init__(self, rngs):
        self.blocks = nnx.List([nnx.Linear(6, 6, rngs=rngs), self.Layer(rngs)])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class OwnMethods(Layers):
    """Its own `train()` and `eval()`, which set a flag of another name."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.mode = "eval"

    def train(self, **attributes):
        super().train(**attributes)
        self.mode = "train"

    def eval(self, **attributes):
        super().eval(**attributes)
        self.mode = "eval"

    def __call__(self, x):
        return self.run(x, self.mode == "train")


class StreamsArgument(nnx.Module):
    """Dropout without a stream of its own."""

    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.drop = nnx.Dropout(0.5)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x, *, deterministic, rngs=None):
        x = nnx.relu(self.first(x))
        return self.last(self.drop(x, deterministic=deterministic, rngs=rngs))


class Attention(nnx.Module):
    """An embedding, layer normalisation, attention with dropout of its weights, and a mean."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 8, rngs=rngs)
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            num_heads=2, in_features=8, dropout_rate=0.3, decode=False, rngs=rngs
        )
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, tokens, deterministic: bool | None = None):
        x = self.embed(tokens)
        x = x + self.attend(self.norm(x), deterministic=deterministic)
        return self.last(x.mean(1))


class OfDict(Attention):
    """The same for inputs of two arrays."""

    def __call__(self, inputs, train=False):
        x = self.embed(inputs["tokens"])
        mask = nnx.make_attention_mask(inputs["mask"], inputs["mask"])
        x = x + self.attend(self.norm(x), mask=mask, deterministic=not train)
        return self.last((x * inputs["mask"][..., None]).mean(1))


class Tied(nnx.Module):
    """The last token's scores are products with its embeddings."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 8, rngs=rngs)
        self.hidden = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, tokens):
        return self.embed.attend(nnx.relu(self.hidden(self.embed(tokens).mean(1))))


class Shared(nnx.Module):
    """One layer in two places."""

    def __init__(self, rngs):
        layer = nnx.Linear(6, 6, rngs=rngs)
        self.one, self.other = layer, layer
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.other(nnx.relu(self.one(x)))))


class Scanned(nnx.Module):
    """Three layers with dropout, stacked, as one loop."""

    class Layer(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(6, 6, rngs=rngs)
            self.drop = nnx.Dropout(0.2, rngs=rngs)

        def __call__(self, x):
            return nnx.relu(self.drop(self.linear(x)))

    def __init__(self, rngs):
        make = nnx.split_rngs(splits=3)(nnx.vmap(self.Layer, in_axes=0, out_axes=0))
        self.layers = make(rngs)
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def loop(x, layer):
            return layer(x)

        return self.last(loop(x, self.layers))


class Rematerialised(Layers):
    def __call__(self, x, train=False):
        @nnx.remat
        def first(network, x):
            return nnx.relu(network.norm(network.first(x), use_running_average=not train))

        return self.last(self.drop(first(self, x), deterministic=not train))


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(6, 8, rngs=rngs))
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.rnn(x)[:, -1])


class Transposed(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs)
        self.second = nnx.ConvTranspose(4, 4, (3, 3), strides=2, rngs=rngs)
        self.last = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.second(nnx.relu(self.first(x)))).mean((1, 2)))


class Sowing(nnx.Module):
    """Sows what it computes, as a tuple that grows and as a sum; adds an output to itself."""

    def __init__(self, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        self.sow(nnx.Intermediate, "hidden", x)
        self.sow("losses", "size", (x**2).mean())
        self.output = nnx.Intermediate(x)
        return self.last(x)


class Quantised(nnx.Module):
    """Its first layer is made of 8-bit numbers and does not train."""

    def __init__(self, rngs):
        kernel = 40 * jax.random.normal(rngs.params(), (6, 8))
        self.kernel = nnx.Param(kernel.astype(jnp.int8))
        self.scale = nnx.Param(jnp.full(8, 0.05))
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(x @ (self.kernel[...] * self.scale[...][None])))


def without_sowing(network, x):
    """Later releases of Flax warn where a network sows and nobody collects."""
    return nnx.capture(network)(x) if hasattr(nnx, "capture") else network(x)


def low_rank(rngs):
    lora = functools.partial(nnx.LoRALinear, lora_rank=2, rngs=rngs)
    return nnx.Sequential(lora(6, 8), nnx.relu, lora(8, 3))


def in_bfloat16(rngs):
    linear = functools.partial(nnx.Linear, param_dtype=jnp.bfloat16, rngs=rngs)
    norm = nnx.BatchNorm(8, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16, rngs=rngs)
    return nnx.Sequential(linear(6, 8), norm, nnx.relu, linear(8, 3))


def partitioned(rngs):
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
    mesh = jax.make_mesh((1,), ("model",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        return nnx.Sequential(
            nnx.Linear(6, 8, kernel_init=init, rngs=rngs), nnx.relu, nnx.Linear(8, 3, rngs=rngs)
        )


def raw_keys():
    """Random streams of keys as `jax.random.PRNGKey` makes them."""

    class Network(Layers):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.noise = nnx.RngKey(jax.random.PRNGKey(1), tag="noise")
            self.training = False

        def __call__(self, x):
            if self.training:
                x = x + jax.random.normal(self.noise[...], x.shape)
            return self.last(nnx.relu(self.norm(self.first(x))))

    return Network(nnx.Rngs(0))


def _nnx(make, *args, **kwargs):
    return Case(lambda: make(nnx.Rngs(0)), *args, **kwargs)


def rbg(make):
    return lambda: make(nnx.Rngs(jax.random.key(0, impl="rbg")))


NNX = {
    "batch norm and dropout": _nnx(PlainCall, **BOTH),
    "single logit": _nnx(SingleLogit, loss="binary", **BOTH),
    "train argument": _nnx(TrainArgument, **BOTH),
    "required flag by position": _nnx(
        RequiredPosition, evaluate=lambda net, x: net(x, False), **BOTH
    ),
    "inference argument": _nnx(InferenceArgument, **BOTH),
    "train attribute": _nnx(TrainAttribute, **BOTH),
    "training of a layer": _nnx(TrainingOfALayer, **BOTH),
    "own train and eval": _nnx(OwnMethods, **BOTH),
    "streams as an argument": _nnx(
        StreamsArgument, evaluate=lambda net, x: net(x, deterministic=True), random=True
    ),
    "keys of another implementation": Case(rbg(PlainCall), **BOTH),
    "raw keys": Case(raw_keys, **BOTH),
    "attention": _nnx(Attention, "tokens", random=True),
    "dict of inputs": _nnx(OfDict, "dict", random=True),
    "tied embeddings": _nnx(Tied, "tokens"),
    "low rank": _nnx(low_rank),
    "shared layer": _nnx(Shared),
    "scan": _nnx(Scanned, random=True),
    "remat": _nnx(Rematerialised, **BOTH),
    "LSTM": _nnx(Recurrent, "sequences"),
    "transposed convolution": _nnx(Transposed, "images"),
    "bfloat16 parameters": _nnx(in_bfloat16, moves=True),
    "partitioned": _nnx(partitioned),
    "sown": _nnx(Sowing, evaluate=without_sowing),
    "8-bit layer": _nnx(Quantised),
    "frozen batch norm": _nnx(
        Layers,
        apply=lambda net, x, train: net.run(x, False),
        evaluate=lambda net, x: net.run(x, False),
    ),
}
