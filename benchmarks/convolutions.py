"""Layers of the built-in networks on a CPU: bap_jax's convolution against `lax` and PyTorch.

    python benchmarks/convolutions.py --json=convolutions.json

For every layer three parts are timed: `forward`, `input` (the gradient by the images) and `kernel`
(the gradient by the kernel). Each is compared with `lax` alone (`alone`) and as the body of a
`lax.scan` (`scan`), and, where PyTorch can be imported, with PyTorch in its own memory layout for
images, channels first (`torch`). A ratio is the median over rounds of the time of bap_jax over the
other's; both take turns in one process. Cost: about three minutes on one core.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import timing
from absl import app, flags
from jax import lax

from bap_jax import models

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_ONLY = flags.DEFINE_list("only", [], "names of layers; default: all")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "rounds of each comparison")
_SMALL = flags.DEFINE_bool("small", False, "small layers, to try the script")
REPEATS = 2  # in a scan
NUMBERS = ("NHWC", "HWIO", "NHWC")


class Layer(NamedTuple):
    """A convolution of square images, padded on every side by half the kernel."""

    batch: int
    size: int
    inner: int
    out: int
    kernel: int
    stride: int = 1
    groups: int = 1


LAYERS = {
    "cifar_stem": Layer(128, 32, 3, 16, 3),
    "cifar_stage_1": Layer(128, 32, 16, 16, 3),
    "cifar_stage_2": Layer(128, 16, 32, 32, 3),
    "cifar_stage_3": Layer(128, 8, 64, 64, 3),
    "cifar_stride": Layer(128, 32, 16, 32, 3, 2),
    "cifar_shortcut": Layer(128, 32, 16, 32, 1, 2),
    "imagenet_stem": Layer(8, 224, 3, 64, 7, 2),
    "imagenet_point": Layer(8, 56, 256, 64, 1),
    "imagenet_3x3": Layer(8, 28, 128, 128, 3),
    "depthwise": Layer(8, 56, 144, 144, 3, 1, 144),
    "depthwise_stride": Layer(8, 56, 144, 144, 3, 2, 144),
}


def make_arrays(layer: Layer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, kernel and the gradient of the result."""
    draw = np.random.default_rng(0).normal
    size = (layer.size + 2 * (layer.kernel // 2) - layer.kernel) // layer.stride + 1
    shapes = (
        (layer.batch, layer.size, layer.size, layer.inner),
        (layer.kernel, layer.kernel, layer.inner // layer.groups, layer.out),
        (layer.batch, size, size, layer.out),
    )
    images, kernel, gradient = (draw(size=shape).astype(np.float32) for shape in shapes)
    return images, kernel, gradient


def parts(layer: Layer, convolve: Callable[..., jax.Array]) -> dict[str, Callable[..., jax.Array]]:
    """The forward pass and both gradients, of images, kernel and gradient."""
    pads, strides = ((layer.kernel // 2,) * 2,) * 2, (layer.stride,) * 2
    options = {"dimension_numbers": NUMBERS, "feature_group_count": layer.groups}
    call = functools.partial(convolve, window_strides=strides, padding=pads, **options)
    return {
        "forward": lambda images, kernel, gradient: call(images, kernel),
        "input": lambda images, kernel, gradient: jax.vjp(call, images, kernel)[1](gradient)[0],
        "kernel": lambda images, kernel, gradient: jax.vjp(call, images, kernel)[1](gradient)[1],
    }


def scanned(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`function`, several times in a loop that XLA cannot leave."""

    def repeated(*arrays):
        def body(previous, _):
            again, _ = lax.optimization_barrier((arrays, previous))
            return function(*again), None

        shape = jax.eval_shape(function, *arrays)
        return lax.scan(body, jnp.zeros(shape.shape, shape.dtype), length=REPEATS)[0]

    return repeated


def torch_parts(layer: Layer) -> dict[str, Callable[[], Any]]:
    """The same three parts in PyTorch."""
    import torch

    images, kernel, gradient = (torch.tensor(array) for array in make_arrays(layer))
    images, gradient = (array.permute(0, 3, 1, 2).contiguous() for array in (images, gradient))
    kernel = kernel.permute(3, 2, 0, 1).contiguous()
    half, stride = layer.kernel // 2, layer.stride

    def backward(*wanted):
        pairs = [stride, stride], [half, half], [1, 1], False, [0, 0]
        arguments = gradient, images, kernel, None, *pairs, layer.groups, [*wanted, False]
        return torch.ops.aten.convolution_backward(*arguments) and None

    def forward():
        with torch.no_grad():
            torch.conv2d(images, kernel, None, stride, half, 1, layer.groups)

    return {
        "forward": forward,
        "input": functools.partial(backward, True, False),
        "kernel": functools.partial(backward, False, True),
    }


def measure(layer: Layer) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of `timing.compare` for one layer, by `part_kind`."""
    arrays = [jnp.asarray(array) for array in make_arrays(layer)]
    ours, theirs = (parts(layer, models.convolution(name)) for name in ("loop", "lax"))
    torch = torch_parts(layer) if importlib.util.find_spec("torch") else {}
    for part in ours:
        for kind, wrap in (("alone", lambda function: function), ("scan", scanned)):
            pair = [jax.jit(wrap(function[part])) for function in (ours, theirs)]
            calls = [functools.partial(function, *arrays) for function in pair]
            yield f"{part}_{kind}", timing.compare(*calls, _ROUNDS.value)
        if torch:
            run = functools.partial(jax.jit(ours[part]), *arrays)
            yield f"{part}_torch", timing.compare(run, torch[part], _ROUNDS.value)


def main(argv):
    del argv
    rows = {}
    for name in _ONLY.value or LAYERS:
        layer = LAYERS[name]
        if _SMALL.value:
            layer = layer._replace(batch=2, size=8)
        for kind, row in measure(layer):
            rows[f"{name}_{kind}"] = row
            timing.show(f"{name}_{kind}", row)
    timing.write(_JSON.value, rows)


if __name__ == "__main__":
    app.run(main)
