"""The convolution for loops: its gradients against lax's and against finite differences."""

import functools
import re
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.models import kernel_gradient, loops
from bap_jax.models.convolution import conv_general_dilated, convolution

NUMBERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


class Case(NamedTuple):
    """A convolution of 3 images; every channel by itself if a kernel has one input channel."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | tuple
    steps: tuple[int, ...] | None = None
    channels: tuple[int, int, int] = (2, 2, 4)  # of the image; of the kernel, in and out

    def arrays(self, dtype=jnp.float32, batch=3):
        draw = np.random.default_rng(0).normal
        lhs = draw(size=(batch, *self.image, self.channels[0]))
        rhs = draw(size=(*self.kernel, *self.channels[1:]))
        return jnp.asarray(lhs, dtype), jnp.asarray(rhs, dtype)

    def call(self, conv, lhs, rhs):
        numbers, groups = NUMBERS[len(self.image)], self.channels[0] // self.channels[1]
        return conv(lhs, rhs, self.strides, self.padding, None, self.steps, numbers, groups)


# Every value of: even and odd images, kernels of 1 to 7, strides of 1 to 3, steps of 1 to 3,
# paddings; strides that do not divide the image; padding that is negative, or wider than a kernel.
CASES = {
    "plain": Case((6, 7), (3, 3), (1, 1), "SAME"),
    "stride": Case((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    "shortcut": Case((8, 7), (1, 1), (2, 2), ((0, 0), (0, 0))),
    "point": Case((5, 4), (1, 1), (1, 1), "VALID"),
    "even": Case((7, 8), (2, 4), (1, 2), "SAME"),
    "even_valid": Case((9, 8), (4, 2), (3, 2), "VALID"),
    "same_lower": Case((7, 8), (4, 3), (2, 1), "SAME_LOWER"),
    "large": Case((9, 8), (5, 7), (2, 1), "SAME"),
    "larger_than_the_image": Case((4, 3), (7, 5), (2, 3), ((3, 4), (2, 2))),
    "oblong": Case((8, 9), (1, 7), (1, 2), ((0, 0), (3, 3))),
    "dilated": Case((9, 10), (3, 2), (1, 1), "SAME", (2, 3)),
    "dilated_stride": Case((11, 10), (3, 3), (2, 3), "VALID", (2, 1)),
    "uneven": Case((8, 7), (3, 3), (3, 2), ((0, 2), (4, 1))),
    "negative": Case((9, 8), (3, 2), (2, 1), ((-1, 2), (1, -2)), (1, 2)),
    "line": Case((9,), (4,), (2,), "SAME"),
    "volume": Case((4, 5, 3), (3, 2, 1), (2, 1, 1), "SAME"),
}
# Several positions at a time, forward or backward.
FEW_CHANNELS = {
    "two_positions": Case((5, 8), (3, 3), (1, 1), "SAME", None, (16, 16, 16)),
    "three_positions": Case((6, 9), (2, 5), (2, 1), ((2, 1), (3, 1)), None, (8, 8, 12)),
    "four_positions": Case((4, 8), (3, 3), (1, 1), ((1, 1), (1, 1)), None, (3, 3, 16)),
    "positions_and_stride": Case((7, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), None, (3, 3, 32)),
    "positions_and_negative_padding": Case(
        (7, 9), (3, 3), (1, 1), ((-1, 0), (2, -1)), None, (16, 16, 16)
    ),
}
DEPTHWISE = {
    "depthwise": Case((6, 7), (3, 3), (1, 1), "SAME", None, (4, 1, 4)),
    "depthwise_stride": Case((8, 7), (3, 3), (2, 2), ((1, 1), (1, 1)), None, (4, 1, 4)),
    "depthwise_multiplied": Case((5, 6), (2, 3), (1, 2), "VALID", None, (3, 1, 6)),
    "depthwise_dilated": Case((9, 10), (3, 2), (2, 1), "SAME", (2, 3), (2, 1, 4)),
    "depthwise_negative": Case((9, 8), (3, 2), (2, 1), ((-1, 2), (1, -2)), (1, 2), (3, 1, 3)),
    "depthwise_larger": Case((4, 3), (7, 5), (2, 3), ((3, 4), (2, 2)), None, (2, 1, 2)),
    "depthwise_point": Case((4, 3), (1, 1), (1, 1), "SAME", None, (2, 1, 2)),
    "depthwise_line": Case((9,), (4,), (2,), "SAME", None, (3, 1, 3)),
}
CASES |= FEW_CHANNELS | DEPTHWISE
SOME = ("stride", "even", "dilated_stride", "negative", "two_positions", "depthwise_multiplied")


def value_and_grads(case, conv, lhs, rhs):
    """The result and both gradients, of a weighted sum of the result's entries."""

    def total(lhs, rhs):
        out = case.call(conv, lhs, rhs)
        weights = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
        return jnp.vdot(out, weights, preferred_element_type=jnp.float32), out

    (_, out), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(lhs, rhs)
    return out, *grads


@functools.cache
def expected(name, dtype=jnp.float32):
    case = CASES[name]
    return jax.jit(functools.partial(value_and_grads, case, lax.conv_general_dilated))(
        *case.arrays(dtype)
    )


def assert_close(found, wanted, tolerance=1e-5):
    """Within `tolerance` of each array's largest entry."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        one, other = (np.asarray(array, np.float32) for array in (one, other))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * abs(other).max())


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_lax(name):
    case = CASES[name]
    found = jax.jit(functools.partial(value_and_grads, case, conv_general_dilated))(*case.arrays())
    assert_close(found, expected(name))


@pytest.mark.smoke
@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in CASES if name != "shortcut"])
def test_the_kernel_gradient_by_blocks_of_rows(monkeypatch, name, rows):
    """Also where the last block has fewer rows: its missing ones add nothing, whatever x holds."""
    case = CASES[name]
    lhs, rhs = case.arrays()
    positions = expected(name)[0].shape[2:-1]
    channels = case.channels[2 if name in DEPTHWISE else 0]
    offsets = 1 if name in DEPTHWISE else np.prod(case.kernel)
    row_bytes = 4 * 3 * channels * np.prod(positions, dtype=int) * offsets
    monkeypatch.setattr(kernel_gradient, "BLOCK_BYTES", int(rows * row_bytes))
    program = jax.jit(functools.partial(value_and_grads, case, conv_general_dilated))
    assert_close(program(lhs, rhs), expected(name))
    count = expected(name)[0].shape[1]
    if count > rows:
        blocks = -(-count // -(-count // -(-count // rows)))
        assert f"length={blocks}" in str(jax.make_jaxpr(program)(lhs, rhs))


def test_rows_behind_the_last_position_do_not_count(monkeypatch):
    """A stride can leave rows of x unread; they may hold anything."""
    monkeypatch.setattr(kernel_gradient, "BLOCK_BYTES", 2 * 4 * 3 * 4 * 9 * 2)
    for name, channels in (("plain", (2, 2, 4)), ("depthwise", (2, 1, 2))):
        case = CASES[name]._replace(
            image=(11, 9), strides=(2, 2), padding=((0, -4), (0, 0)), channels=channels
        )
        lhs, rhs = case.arrays()
        ours = functools.partial(value_and_grads, case, conv_general_dilated)
        grads = [jax.jit(ours)(lhs.at[:, 7:].set(tail), rhs)[2] for tail in (0, jnp.inf)]
        np.testing.assert_array_equal(*grads)


def test_how_many_positions_are_merged():
    """As many as give the products 32 columns, or 64 with few input channels."""
    counts = {}
    for name, case in FEW_CHANNELS.items():
        programs = str(
            jax.make_jaxpr(functools.partial(case.call, convolution("loop")))(*case.arrays())
        )
        widths = re.findall(r"f32\[(\d+),(\d+),\d+,(\d+)\] = concatenate", programs)
        counts[name] = int(widths[0][2]) // case.channels[2] if widths else 1
    assert counts == {
        "two_positions": 2,
        "three_positions": 3,
        "four_positions": 4,
        "positions_and_stride": 2,
        "positions_and_negative_padding": 2,
    }
    wide = CASES["two_positions"]._replace(channels=(16, 16, 32))
    assert "concatenate" not in str(
        jax.make_jaxpr(functools.partial(wide.call, convolution("loop")))(*wide.arrays())
    )


def test_gradients_in_float64():
    with jax.enable_x64(True):
        for name in ("stride", "two_positions", "depthwise_multiplied"):
            case, arrays = CASES[name], CASES[name].arrays(jnp.float64)
            found, wanted = (
                jax.jit(functools.partial(value_and_grads, case, conv))(*arrays)
                for conv in (conv_general_dilated, LAX)
            )
            for one, other in zip(found, wanted, strict=True):
                assert one.dtype == jnp.float64
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ("plain", "shortcut", "negative", "depthwise_multiplied"))
def test_gradients_in_bfloat16(name):
    """Eight bits of mantissa; both sides round."""
    case, dtype = CASES[name], jnp.bfloat16
    ours = jax.jit(functools.partial(value_and_grads, case, conv_general_dilated))
    found = ours(*case.arrays(dtype))
    assert_close(found, expected(name, dtype), 0.02)
    assert {array.dtype for array in found} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", SOME)
def test_finite_differences(name):
    case = CASES[name]
    ours = jax.jit(functools.partial(case.call, conv_general_dilated))
    check_grads(ours, case.arrays(), order=1, modes=["rev"], rtol=1e-2, atol=1e-2, eps=1e-1)


def test_without_jit():
    case = CASES["stride"]
    assert_close(value_and_grads(case, conv_general_dilated, *case.arrays()), expected("stride"))


@pytest.mark.parametrize("name", SOME)
def test_inside_scan(name):
    case = CASES[name]

    @jax.jit
    def repeated(lhs, rhs):
        def body(factor, _):
            found = value_and_grads(case, conv_general_dilated, factor * lhs, factor * rhs)
            return factor + 1, found

        return lax.scan(body, jnp.float32(1), length=2)[1]

    found = repeated(*case.arrays())
    assert_close([array[0] for array in found], expected(name))
    # The result is a product of both, each gradient is linear in the other.
    scaled = [scale * array for scale, array in zip((4, 2, 2), expected(name), strict=True)]
    assert_close([array[1] for array in found], scaled)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_under_vmap(name, axes):
    case = CASES[name]
    scales = (jnp.arange(1.0, 3.0), jnp.float32(1))
    factors = [scales[axis is None] for axis in axes]

    @jax.jit
    def members(lhs, rhs):
        def member(lhs_scale, rhs_scale):
            return value_and_grads(case, conv_general_dilated, lhs_scale * lhs, rhs_scale * rhs)

        return jax.vmap(member, axes)(*factors)

    found = members(*case.arrays())
    for i in range(2):
        left, right = (scale[i] if scale.ndim else scale for scale in factors)
        scaled = [
            scale * array
            for scale, array in zip((left * right, right, left), expected(name), strict=True)
        ]
        assert_close([array[i] for array in found], scaled)


@pytest.mark.parametrize("name", ("stride", "two_positions", "depthwise_stride"))
def test_gradients_of_gradients(monkeypatch, name):
    """Reverse over reverse and forward over reverse work; forward mode alone does not."""
    monkeypatch.setattr(kernel_gradient, "BLOCK_BYTES", 1)
    case = CASES[name]
    arrays = case.arrays()

    def slope(conv, lhs, rhs):
        def total(rhs):
            return jnp.square(case.call(conv, lhs, rhs)).sum()

        return jax.grad(total)(rhs)

    def both(conv):
        curve = functools.partial(slope, conv, arrays[0])
        forward = jax.jvp(curve, arrays[1:], arrays[1:])[1]
        return forward, jax.grad(lambda rhs: jnp.square(curve(rhs)).sum())(arrays[1])

    # jaxlib 0.8.1 compiles the second gradient of LAX wrongly; operation by operation it is right.
    assert_close(jax.jit(both, static_argnums=0)(conv_general_dilated), both(LAX))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(functools.partial(case.call, conv_general_dilated), arrays, arrays)


@pytest.mark.parametrize("name", ("stride", "two_positions", "depthwise_multiplied"))
def test_a_batch_on_eight_devices(monkeypatch, name):
    """The gradient of the kernel is summed over devices; no device receives the whole batch."""
    monkeypatch.setattr(kernel_gradient, "BLOCK_BYTES", 1)
    case = CASES[name]
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    lhs, rhs = case.arrays(batch=16)
    ours = jax.jit(functools.partial(value_and_grads, case, conv_general_dilated))
    sharded = jax.device_put(lhs, NamedSharding(mesh, PartitionSpec("data")))
    assert_close(ours(sharded, rhs), ours(lhs, rhs))
    program = jax.jit(jax.grad(lambda rhs, lhs: case.call(conv_general_dilated, lhs, rhs).sum()))
    text = program.lower(rhs, sharded).compile().as_text()
    assert "while" in text and "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)


class Net(nn.Module):
    """Two convolutions with biases, the second of groups."""

    conv: object = None

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, conv_general_dilated=self.conv)
        x = nn.relu(conv(4, (3, 3), strides=2, padding="SAME")(x))
        return conv(4, (2, 2), padding="SAME", feature_group_count=2)(x).mean((1, 2))


def test_linen_modules_take_it():
    images = CASES["plain"].arrays()[0]
    variables = jax.jit(Net().init)(jax.random.key(0), images)

    @functools.partial(jax.jit, static_argnums=0)
    def grads(conv):
        return jax.grad(lambda v, x: jnp.square(Net(conv).apply(v, x)).sum(), (0, 1))(
            variables, images
        )

    chex.assert_trees_all_close(grads(conv_general_dilated), grads(None), rtol=1e-5, atol=1e-6)


LAX = lax.conv_general_dilated
FALL_THROUGH = {
    "lhs_dilation": {"lhs_dilation": (2, 1)},
    "channels_first": {"dimension_numbers": None, "shapes": ((3, 2, 5, 6), (4, 2, 2, 3))},
    "feature_groups": {"feature_group_count": 2, "shapes": ((3, 5, 6, 4), (2, 3, 2, 4))},
    "batch_groups": {"batch_group_count": 2, "shapes": ((4, 5, 6, 2), (2, 3, 2, 4))},
    "wider_result": {"preferred_element_type": jnp.float32, "dtype": jnp.bfloat16},
}


@pytest.mark.parametrize("name", FALL_THROUGH)
def test_cases_that_are_passed_on_to_lax(name):
    options = {"dimension_numbers": NUMBERS[2], **FALL_THROUGH[name]}
    dtype = options.pop("dtype", jnp.float32)
    shapes = options.pop("shapes", ((3, 5, 6, 2), (2, 3, 2, 4)))
    arrays = [jnp.ones(shape, dtype) for shape in shapes]
    programs = []
    for conv in (conv_general_dilated, LAX):
        pairs = ((0, 0), (0, 0))
        call = functools.partial(conv, window_strides=(1, 1), padding=pairs, **options)
        programs.append(str(jax.make_jaxpr(call)(*arrays)))
    assert programs[0] == programs[1]


def test_integers_and_arrays_without_elements():
    case = CASES["plain"]
    integers = [array.astype(jnp.int32) for array in case.arrays()]
    ours, theirs = (case.call(conv, *integers) for conv in (conv_general_dilated, LAX))
    np.testing.assert_array_equal(ours, theirs)
    for image, batch in (((2, 2), 3), ((6, 7), 0)):  # smaller than the kernel; no images
        small = Case(image, (3, 3), (1, 1), "VALID")
        arrays = small.arrays(batch=batch)
        out, *grads = value_and_grads(small, conv_general_dilated, *arrays)
        assert out.size == 0
        chex.assert_trees_all_equal(tuple(grads), jax.tree.map(jnp.zeros_like, arrays))


MISTAKES = [{"padding": wrong} for wrong in (1, "CAUSAL", ((1, 1),))]
MISTAKES += [{"strides": (1,)}, {"kernel": (3,)}]


@pytest.mark.parametrize("change", MISTAKES, ids=str)
def test_mistakes_raise_the_errors_of_lax(change):
    case, texts = CASES["plain"]._replace(**change), []
    for conv in (conv_general_dilated, LAX):
        with pytest.raises((TypeError, ValueError, RuntimeError)) as caught:
            case.call(conv, *case.arrays())
        texts.append(str(caught.value))
    assert texts[0] == texts[1]


def test_convolutions_by_name(monkeypatch):
    assert convolution("loop") is conv_general_dilated and convolution("lax") is LAX
    for backend, is_ours in (("cpu", True), ("gpu", False), ("tpu", False)):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        call = functools.partial(CASES["plain"].call, convolution())
        assert ("custom_vjp" in str(jax.make_jaxpr(call)(*CASES["plain"].arrays()))) == is_ours
    for build in (convolution, lambda name: models.build("resnet", 10, convolution=name)):
        with pytest.raises(UserError, match=r"unknown convolution 'fft'; known: auto, loop, lax\."):
            build("fft")


def test_the_residual_network_uses_it():
    images = jnp.ones((1, 8, 8, 3))
    programs = {}
    for name in ("auto", "loop", "lax"):
        model = models.build("resnet", 3, depth=8, width=2, convolution=name)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
        apply = functools.partial(model.apply, train=False, key=None)
        programs[name] = str(jax.make_jaxpr(apply)(variables, images))
        assert models.cost(model, variables, images).multiply_adds == 15_256
        assert len(models.kernel_order(model, variables, images)) == 10
    assert programs["auto"].count("custom_vjp_call") == programs["loop"].count("custom_vjp_call")
    assert programs["loop"].count("custom_vjp_call") >= 9 and "custom_vjp" not in programs["lax"]


@pytest.mark.smoke
def test_programs_are_read_as_with_the_convolution_of_lax():
    """Merged positions and shifted sums are one convolution each, and none is slow in loops."""
    images = jnp.ones((1, 32, 32, 3))
    read = {}
    for name in ("loop", "lax"):
        model = models.build("mobilenet_v2", 3, convolution=name)
        variables = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape),
            jax.eval_shape(model.init, jax.random.key(0), images),
        )
        arguments = model, variables, images
        assert loops.convolutions(*arguments) == loops.Convolutions(True, name == "lax")
        read[name] = models.cost(*arguments), models.kernel_order(*arguments)
    assert read["loop"] == read["lax"] and len(read["loop"][1]) == 53
