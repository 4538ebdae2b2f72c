"""Which channels belong together, and networks with fewer of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bap_jax import models, pruning
from bap_jax.errors import UserError
from bap_jax.models.resnet import ResNet
from bap_jax.types import ChannelGroup, group_sizes

IMAGES = jnp.zeros((2, 8, 8, 3))


def shapes(module, inputs=IMAGES):
    return jax.eval_shape(models.from_linen(module).init, jax.random.key(0), inputs)


def by_path(tree):
    return dict(zip(pruning.leaf_paths(tree), jax.tree.leaves(tree), strict=True))


def normed(*layers):
    """Vectors and states of the norms of that name."""
    return (
        tuple(f"{layer}/{kind}" for layer in layers for kind in ("scale", "bias")),
        tuple(f"batch_stats/{layer}/{kind}" for layer in layers for kind in ("mean", "var")),
    )


def test_hidden_layers_of_an_mlp():
    assert models.channel_groups(models.MLP((5, 4, 3))) == (
        ChannelGroup("dense_0", ("dense_0/kernel",), ("dense_0/bias",), (), ("dense_1/kernel",)),
        ChannelGroup("dense_1", ("dense_1/kernel",), ("dense_1/bias",), (), ("dense_2/kernel",)),
    )
    assert models.channel_groups(models.MLP((3,))) == ()


def test_a_model_has_the_groups_of_its_module():
    model = models.build("mlp", 3, hidden=(5, 4))
    assert models.channel_groups(model) == models.channel_groups(models.MLP((5, 4, 3)))


def test_resnet_8_by_hand():
    one, two, three = (f"stage_{i}_block_0" for i in (1, 2, 3))
    expected = {
        "stage_1": (
            ["conv_0", f"{one}/conv_2"],
            normed("norm_0", f"{one}/norm_2"),
            [f"{one}/conv_1", f"{two}/conv_1", f"{two}/shortcut_conv"],
        ),
        one: ([f"{one}/conv_1"], normed(f"{one}/norm_1"), [f"{one}/conv_2"]),
        "stage_2": (
            [f"{two}/shortcut_conv", f"{two}/conv_2"],
            normed(f"{two}/shortcut_norm", f"{two}/norm_2"),
            [f"{three}/conv_1", f"{three}/shortcut_conv"],
        ),
        two: ([f"{two}/conv_1"], normed(f"{two}/norm_1"), [f"{two}/conv_2"]),
        "stage_3": (
            [f"{three}/shortcut_conv", f"{three}/conv_2"],
            normed(f"{three}/shortcut_norm", f"{three}/norm_2"),
            ["head"],
        ),
        three: ([f"{three}/conv_1"], normed(f"{three}/norm_1"), [f"{three}/conv_2"]),
    }
    found = {group.name: group for group in models.channel_groups(ResNet(10, depth=8))}
    assert list(found) == list(expected)
    for name, (producers, (vectors, states), consumers) in expected.items():
        group = found[name]
        assert group.producers == tuple(f"{path}/kernel" for path in producers)
        assert group.consumers == tuple(f"{path}/kernel" for path in consumers)
        assert (group.vectors, group.states, group.silent) == (vectors, states, True)


@pytest.mark.parametrize("depth", [8, 14, 20])
def test_resnet_groups_name_every_axis_once(depth):
    """Every axis but the images' channels and the classes."""
    variables = shapes(ResNet(10, depth, width=4))
    params, states = by_path(variables.params), by_path(variables.state)
    groups = models.channel_groups(ResNet(10, depth, width=4))
    sizes = group_sizes(groups, params, states)
    widths = {"stage_1": 4, "stage_2": 8, "stage_3": 16}
    assert list(sizes) == [widths[group.name[: len("stage_1")]] for group in groups]
    kernels = {path for path in params if path.endswith("/kernel")}
    assert {p for g in groups for p in g.producers} == kernels - {"head/kernel"}
    assert {p for g in groups for p in g.consumers} == kernels - {"conv_0/kernel"}
    assert {p for g in groups for p in g.vectors} == set(params) - kernels - {"head/bias"}
    assert {p for g in groups for p in g.states} == set(states)


def test_a_smaller_mlp():
    assert models.MLP((5, 4, 3)).with_channels({"dense_1": 2}) == models.MLP((5, 2, 3))


def test_a_smaller_resnet_keeps_its_layers():
    """All widths equal: by shapes alone no block would need a convolution in its shortcut."""
    module = ResNet(10, depth=14, width=4)
    groups = models.channel_groups(module)
    small = module.with_channels({group.name: 3 for group in groups})
    assert small.stream_widths == (3, 3, 3) and small.block_widths == (3,) * 6
    assert models.channel_groups(small) == groups
    before, after = shapes(module), shapes(small)
    assert list(by_path(after.params)) == list(by_path(before.params))
    assert set(group_sizes(groups, by_path(after.params), by_path(after.state))) == {3}


def test_other_widths_stay():
    small = ResNet(10, depth=8, width=4).with_channels({"stage_2": 5, "stage_3_block_0": 7})
    assert (small.stream_widths, small.block_widths) == ((4, 5, 16), (4, 8, 7))
    smaller = small.with_channels({"stage_1": 1})
    assert (smaller.stream_widths, smaller.block_widths) == ((1, 5, 16), (4, 8, 7))


def test_given_widths_of_the_default_change_nothing():
    module = ResNet(10, depth=8, width=4)
    same = ResNet(10, 8, 4, stream_widths=(4, 8, 16), block_widths=(4, 8, 16))
    assert jax.tree.map(np.shape, shapes(module)) == jax.tree.map(np.shape, shapes(same))


class Own(nn.Module):
    """A user's module, layers declared in `setup`."""

    def setup(self):
        self.one, self.two = nn.Dense(4), nn.Dense(3)

    def __call__(self, x):
        return self.two(nn.relu(self.one(x)))

    def channel_groups(self):
        return [ChannelGroup("one", ("one/kernel",), ("one/bias",), (), ("two/kernel",))]


def test_a_users_module_names_its_groups():
    (group,) = models.channel_groups(Own())
    params = shapes(Own(), jnp.zeros((2, 5))).params
    assert group_sizes([group], by_path(params)) == (4,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: models.channel_groups(nn.Dense(3)),
            r"Dense does not say .* Write a method channel_groups\(self\) .*groups=\(\.\.\.,\)",
        ),
        (
            lambda: models.MLP((4, 3)).with_channels({"dense_1": 2}),
            r"unknown channel group 'dense_1'; known groups: dense_0\.",
        ),
        (
            lambda: ResNet(10, depth=8).with_channels({"head": 2}),
            r"unknown channel group 'head'; known groups: stage_1, stage_1_block_0, stage_2",
        ),
        (
            lambda: ResNet(10, depth=8, stream_widths=(4, 8)),
            r"stream_widths of this resnet must be 3 positive numbers .*; got \(4, 8\)\.",
        ),
        (
            lambda: ResNet(10, depth=14, block_widths=(4, 4, 4, 4, 4, 0)),
            r"block_widths of this resnet must be 6 positive .* got \(4, 4, 4, 4, 4, 0\)\.",
        ),
    ],
)
def test_unknown_channels_are_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


PARAMS = {"a": np.zeros((2, 4)), "b": np.zeros(4), "c": np.zeros((8, 3)), "d": np.zeros((6, 3))}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([("g", ())], r"group 'g' has no producers; name the kernels that write it\."),
        ([("g", ("x",))], r"group 'g' names 'x', which does not exist; known paths: a, b, c, d\."),
        ([("g", ("b",))], r"group 'g' expects 'b' to have shape \(\.\.\., 1\).* got \(4,\)"),
        ([("g", ("a", "c"))], r"'c' to have shape \(\.\.\., 4\), .*producer 'a'; got \(8, 3\)"),
        ([("g", ("c",), ("b",))], r"'b' to have shape \(3,\), .*'c'; got \(4,\)"),
        ([("g", ("a",), (), ("s",))], r"'s' to have shape \(4,\), .*got \(5,\)"),
        ([("g", ("a",), (), ("t",))], r"names 't', which does not exist; known paths: s\."),
        ([("g", ("a",), (), (), ("d",))], r"'d' .*\(\.\.\., a multiple of 4, out\).* \(6, 3\)"),
        ([("g", ("a",)), ("h", ("a",))], r"'a' are written twice, .*group 'h'; name each array"),
        ([("g", ("a",), (), (), ("c", "c"))], r"'c' are read twice, the second time by group 'g'"),
    ],
)
def test_groups_that_do_not_fit(groups, message):
    with pytest.raises(UserError, match=message):
        group_sizes([ChannelGroup(*group) for group in groups], PARAMS, {"s": np.zeros(5)})


HEADS = {"q": np.zeros((8, 2, 3)), "b": np.zeros((2, 3)), "out": np.zeros((2, 3, 8))}


def test_sizes_of_groups_on_other_axes():
    axes = {"q": 1, "b": -2, "out": -3}
    assert group_sizes([ChannelGroup("g", ("q",), ("b",), (), ("out",), axes=axes)], HEADS) == (2,)


def test_a_kernel_may_write_and_read_the_same_channels():
    group = ChannelGroup("g", ("a",), (), (), ("a",))
    assert group_sizes([group], {"a": np.zeros((8, 4))}) == (4,)
    assert (group.axis_of("a", 2), group.axis_of("a", 2, read=True)) == (1, 0)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"q": 1, "out": 0}, r"'b' to have shape \(2,\), .* got \(2, 3\)"),
        ({"q": 1, "b": 1, "out": 0}, r"'b' to have 2 channels on axis 1, .* got \(2, 3\)"),
        ({"q": 2, "b": 1, "out": 0}, r"'out' to have 3 channels on axis 0, .* got \(2, 3, 8\)"),
        ({"q": 3}, "axes of group 'g' say 3 for 'q', which has 3 axes"),
        ({"q": 1, "k": 1}, r"axes of group 'g' name 'k', .* its arrays \(q, b, out\)"),
    ],
)
def test_axes_that_do_not_fit(axes, message):
    group = ChannelGroup("g", ("q",), ("b",), (), ("out",), axes=axes)
    with pytest.raises(UserError, match=message):
        group_sizes([group], HEADS)
