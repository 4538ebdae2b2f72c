"""Small networks in Linen of the kinds that people bring."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from tests.models.networks import BOTH, Case


class LinenLayers(nn.Module):
    """The same layers in Linen."""

    def run(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(8)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(nn.relu(x)))


class LinenArgument(LinenLayers):
    @nn.compact
    def __call__(self, x, train: bool = False):
        return self.run(x, train)


class LinenAttribute(LinenLayers):
    inference: bool = True

    @nn.compact
    def __call__(self, x):
        return self.run(x, not self.inference)


class Outer(nn.Module):
    """Layers are handed in, with their flags."""

    layers: Any
    norm: Any

    @nn.compact
    def __call__(self, x):
        for layer in self.layers["main"]:
            x = layer(x)
        return nn.Dense(3)(nn.relu(self.norm()(x)))


def handed_in():
    layers = [nn.Dense(8), nn.Dropout(0.5, deterministic=True)]
    return Outer({"main": layers}, functools.partial(nn.BatchNorm, use_running_average=True))


class MergedFlag(LinenLayers):
    """The flag is an attribute or an argument, not both."""

    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x, deterministic: bool | None = None):
        return self.run(x, not nn.merge_param("d", self.deterministic, deterministic))


class LinenAttention(nn.Module):
    @nn.compact
    def __call__(self, tokens, *, deterministic):
        x = nn.LayerNorm()(nn.Embed(7, 8)(tokens))
        attend = nn.MultiHeadDotProductAttention(2, dropout_rate=0.3)
        return nn.Dense(3)((x + attend(x, deterministic=deterministic)).mean(1))


class OfSeveral(nn.Module):
    """Takes its inputs as arguments."""

    @nn.compact
    def __call__(self, tokens, mask, deterministic):
        x = nn.Embed(7, 8)(tokens) * mask[..., None]
        return nn.Dense(3)(nn.Dropout(0.2)(nn.Dense(8)(x), deterministic=deterministic).mean(1))


def apart(module, inputs, train):
    return module(inputs["tokens"], inputs["mask"], not train)


class LinenTied(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(7, 8)
        return embed.attend(nn.relu(nn.Dense(8)(embed(tokens).mean(1))))


class LinenShared(nn.Module):
    def setup(self):
        self.layer, self.last = nn.Dense(6), nn.Dense(3)

    def __call__(self, x):
        return self.last(nn.relu(self.layer(nn.relu(self.layer(x)))))


class DropPath(nn.Module):
    """Drops whole samples, with a random stream of its own name."""

    rate: float = 0.3

    @nn.compact
    def __call__(self, x, train):
        if not train:
            return x
        keep = jax.random.bernoulli(self.make_rng("drop_path"), 1 - self.rate, (len(x), 1))
        return x * keep / (1 - self.rate)


class DropsPaths(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        x = x + DropPath()(nn.relu(nn.Dense(6)(x)), self.train)
        return nn.Dense(3)(nn.Dropout(0.1, deterministic=not self.train)(x))


class ScannedLayer(nn.Module):
    train: bool

    @nn.compact
    def __call__(self, x, _):
        x = DropPath()(nn.relu(nn.Dense(6)(x)), self.train)
        self.sow("losses", "size", (x**2).mean())
        return x, None


class LinenScanned(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        loop = nn.scan(
            nn.remat(ScannedLayer),
            variable_axes={"params": 0, "losses": 0},
            split_rngs={"params": True, "drop_path": True},
            length=3,
        )
        return nn.Dense(3)(loop(self.train)(x, None)[0])


class LinenRemat(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.remat(LinenArgument, static_argnums=(2,))()(x, train)


class LinenRecurrent(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.RNN(nn.OptimizedLSTMCell(8))(x)[:, -1])


class LinenTransposed(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), 2)(x))
        x = nn.GroupNorm(2)(nn.ConvTranspose(4, (3, 3), (2, 2))(x))
        return nn.Dense(3)(nn.relu(x).mean((1, 2)))


class LinenSowing(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = self.perturb("hidden", nn.relu(nn.Dense(8)(x)))
        self.sow("intermediates", "hidden", x)
        self.sow("losses", "all", (x**2).mean())
        self.sow("losses", "last", x, reduce_fn=lambda old, new: new, init_fn=lambda: None)
        self.sow("sums", "all", x.sum(), reduce_fn=lambda old, new: old + new, init_fn=lambda: 0.0)
        return nn.Dense(3)(x)


class LinenPartitioned(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        first = nn.Dense(8, kernel_init=nn.with_logical_partitioning(init, ("in", "out")))
        last = nn.Dense(3, kernel_init=nn.with_partitioning(init, (None, "model")))
        return last(nn.relu(first(x)))


class LinenBfloat16(nn.Module):
    @nn.compact
    def __call__(self, x, training=False):
        dense = functools.partial(nn.Dense, param_dtype=jnp.bfloat16)
        x = nn.BatchNorm(use_running_average=not training, param_dtype=jnp.bfloat16)(dense(8)(x))
        return dense(3)(nn.relu(x))


class TwoOutputs(LinenLayers):
    """Two methods, of which neither is `__call__`, and outputs beside the logits."""

    @nn.compact
    def classify(self, x, phase):
        return {"logits": self.run(x, phase == "learn"), "inputs": x}


def logits_of(module, x, train):
    return module.classify(x, "learn" if train else "use")["logits"]


class Frozen(nn.Module):
    """A whole-number parameter, which does not train, and one in double layers of boxes."""

    @nn.compact
    def __call__(self, x):
        shift = self.param("shift", lambda key: jnp.arange(6, dtype=jnp.int32))
        return nn.Dense(3)(nn.relu(nn.Dense(8)(x[:, shift])))


LINEN = {
    "Linen train argument": Case(LinenArgument, **BOTH),
    "Linen attribute": Case(LinenAttribute, **BOTH),
    "Linen layers handed in": Case(handed_in, **BOTH),
    "Linen flag as either": Case(
        MergedFlag, evaluate=lambda net, x: net(x, deterministic=True), **BOTH
    ),
    "Linen attention": Case(
        LinenAttention, "tokens", lambda net, x: net(x, deterministic=True), random=True
    ),
    "Linen tied embeddings": Case(LinenTied, "tokens"),
    "Linen shared layer": Case(LinenShared),
    "Linen stream of another name": Case(DropsPaths, random=True),
    "Linen scan and remat": Case(LinenScanned, random=True),
    "Linen remat of everything": Case(LinenRemat, **BOTH),
    "Linen LSTM": Case(LinenRecurrent, "sequences"),
    "Linen transposed convolution": Case(LinenTransposed, "images"),
    "Linen sown": Case(LinenSowing),
    "Linen partitioned": Case(LinenPartitioned),
    "Linen bfloat16 parameters": Case(LinenBfloat16, moves=True),
    "Linen by apply": Case(
        TwoOutputs, evaluate=lambda net, x: logits_of(net, x, False), apply=logits_of, **BOTH
    ),
    "Linen inputs as arguments": Case(
        OfSeveral, "dict", lambda net, x: apart(net, x, False), random=True, apply=apart
    ),
    "Linen whole numbers": Case(Frozen),
}
