"""A user's own network and arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import bap_jax
from bap_jax import api, data, groups
from bap_jax.training.settings import DualSettings, PruningSettings, Settings

TEST = np.arange(0, 200, 3)
QUICK = Settings(pruning=PruningSettings(sparsity=0.8, epochs=2), finetune_epochs=2)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.out = nnx.Linear(16, 3, rngs=rngs)
        self.first = nnx.Linear(6, 16, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.first(x)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, name="a")(linen.relu(linen.Dense(16, name="z")(x)))


def arrays(n=200):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0), rng.choice(["north", "south"], n)


def linen_net():
    net = LinenNet()
    return net, net.init(jax.random.key(0), jnp.zeros((1, 6)))


def test_nnx_network_comes_back_pruned():
    net = Net(nnx.Rngs(0))
    before = np.array(net.first.kernel[...])
    result = bap_jax.prune_and_tune(net, *arrays(), test_indices=TEST, settings=QUICK)
    assert float((result.pruned.first.kernel[...] == 0).mean()) == pytest.approx(77 / 96)
    assert float((result.pruned.out.kernel[...] == 0).mean()) == 0
    np.testing.assert_array_equal(net.first.kernel[...], before)
    groups = result.report["splits"]["test"]["groups"]
    assert [group["name"] for group in groups] == ["north", "south"]
    verdict = result.report["splits"]["test"]["verdict"]
    assert str(result).lower().startswith(f"{verdict} at ε = 1 point on 67 test samples")
    assert "array(" not in str(result)


@pytest.mark.smoke
def test_several_attributes():
    x, labels, side = arrays()
    names = {"side": side, "label": [f"class {y}" for y in labels]}
    options = {"test_indices": TEST, "settings": QUICK}
    found = bap_jax.prune_and_tune(Net(nnx.Rngs(0)), x, labels, names, **options)
    found_groups = [group["name"] for group in found.report["splits"]["test"]["groups"]]
    assert found_groups[0] == "north*class 0" and len(found_groups) == 6
    options["group_by"] = "side+label"
    found = bap_jax.prune_and_tune(Net(nnx.Rngs(0)), x, labels, names, **options)
    groups = [group["name"] for group in found.report["splits"]["test"]["groups"]]
    assert groups == ["north", "south", "class 0", "class 1", "class 2"]
    with pytest.raises(bap_jax.UserError, match="known_groups is for a single attribute"):
        bap_jax.prune_and_tune(Net(nnx.Rngs(0)), x, labels, names, known_groups=["a"], **options)


def source(**changes):
    x, labels, side = arrays()
    pixels = np.clip(128 + 40 * x, 0, 255).astype(np.uint8)[:, :, None, None].repeat(3, 3)
    columns = {"label": [str(y) for y in labels], "side": side}
    attributes = {name: groups.encode(values) for name, values in columns.items()}
    splits = {"test_indices": TEST, "scale": data.PixelScale((0.5,) * 3, (0.25,) * 3)}
    return data.Source(pixels, attributes, "label", **{**splits, **changes})


class OfImages(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = x.mean(-1).reshape(x.shape[0], -1)
        return linen.Dense(3)(linen.relu(linen.Dense(16)(linen.relu(linen.Dense(16)(x)))))


@pytest.mark.smoke
def test_a_source_brings_everything():
    net = OfImages()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 6, 1, 3)))
    options = {"variables": variables, "settings": QUICK}
    found = bap_jax.prune_and_tune(net, source(), group_by="side", **options).report
    test = found["splits"]["test"]
    assert [group["name"] for group in test["groups"]] == ["north", "south"]
    assert test["n"] == len(TEST)
    # Images reach the network normalised: the same numbers as from arrays that are.
    whole = source()
    inputs = (whole.inputs / 255 - 0.5) / 0.25
    names = arrays()[2]
    same = bap_jax.prune_and_tune(
        net, inputs.astype(np.float32), whole.labelled()[0], names, test_indices=TEST, **options
    ).report
    assert same["splits"]["test"]["dense_accuracy"] == test["dense_accuracy"]


def test_a_sources_own_validation_split_is_used():
    whole = source()
    rest = np.setdiff1d(np.arange(len(whole.inputs)), TEST)
    own = source(validation_indices=rest[::5])
    net = OfImages()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 6, 1, 3)))
    options = {"variables": variables, "settings": QUICK, "group_by": "side"}
    found = bap_jax.prune_and_tune(net, own, **options).report
    assert found["splits"]["validation"]["n"] == len(rest[::5])
    assert found["splits"]["train"]["n"] == len(rest) - len(rest[::5])


@pytest.mark.parametrize(
    ("given", "options", "text"),
    [
        ((source(),), {}, "name the attributes of the source to group by"),
        ((source(), [0]), {"group_by": "side"}, "a source brings labels and groups"),
        ((source(),), {"group_by": "side", "known_groups": ["left"]}, "a source knows its groups"),
        (
            (source(),),
            {"group_by": "race"},
            "unknown group attribute 'race'; known .*: label, side",
        ),
        ((source(test_indices=None),), {"group_by": "side"}, "test_indices are missing"),
        ((arrays()[0],), {"test_indices": TEST}, "labels and group_names are missing"),
        (
            (source(),),
            {"group_by": "side", "test_indices": [0]},
            "brings its own test split: leave test_indices out",
        ),
        (
            (source(validation_indices=np.arange(4)),),
            {"group_by": "side", "validation_fraction": 0.2},
            "brings its own validation split: leave validation_fraction out",
        ),
        (
            (source(), None, None),
            {"group_by": "side", "validation_fraction": 0.0},
            r"validation fraction must lie in \(0, 1\)",
        ),
    ],
)
def test_mistakes_with_sources(given, options, text):
    net = OfImages()
    variables = net.init(jax.random.key(0), jnp.zeros((1, 6, 1, 3)))
    with pytest.raises(bap_jax.UserError, match=text):
        bap_jax.prune_and_tune(net, *given, variables=variables, settings=QUICK, **options)


def test_linen_network_comes_back_pruned():
    net, variables = linen_net()
    result = bap_jax.prune_and_tune(
        net, *arrays(), test_indices=TEST, variables=variables, settings=QUICK
    )
    kernels = {name: leaf["kernel"] for name, leaf in result.pruned["params"].items()}
    assert float((kernels["z"] == 0).mean()) == pytest.approx(77 / 96)
    assert float((kernels["a"] == 0).mean()) == 0
    logits = net.apply(result.pruned, arrays()[0])
    assert logits.shape == (200, 3)


def test_own_test_split_and_overrides():
    net, variables = linen_net()
    mine = np.arange(0, 200, 4)
    result = bap_jax.prune_and_tune(
        net,
        *arrays(),
        variables=variables,
        test_indices=mine,
        settings=QUICK,
        method="nft",
        sparsity=0.5,
        seed=3,
        tolerance=0.05,
    )
    report = result.report
    assert report["splits"]["test"]["n"] == 50
    assert (report["method"], report["seed"], report["tolerance"]) == ("nft", 3, 0.05)
    assert report["sparsity"]["prunable"] == 0.5


def test_a_dual_rate_chooses_the_rule_that_reads_it():
    found = api.override(Settings(), {"dual_learning_rate": 0.3, "sparsity": 0.5}).dual
    assert (found.rule, found.learning_rate) == ("ascent", 0.3)
    kept = api.override(Settings(), {"dual_learning_rate": 0.3, "dual": DualSettings("nu_pi")}).dual
    assert (kept.rule, kept.learning_rate) == ("nu_pi", 0.3)
    assert api.override(Settings(), {"sparsity": 0.5}).dual == DualSettings()


@pytest.mark.parametrize("sparsity_first", [True, False])
def test_overrides_do_not_depend_on_their_order(sparsity_first):
    pair = [("sparsity", 0.7), ("pruning", PruningSettings(epochs=3))]
    found = api.override(Settings(), dict(pair if sparsity_first else pair[::-1]))
    assert found.pruning == PruningSettings(sparsity=0.7, epochs=3)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sparsity": 1.2}, r"pruning.sparsity must lie in \[0, 1\)"),
        (
            {"tolerence": 0.1},
            "unknown argument 'tolerence'; known settings: method, scheme, seed, tolerance",
        ),
        (
            {"known_groups": ["north", "east"]},
            "unknown group name 'south'; known names: north, east",
        ),
        ({"labels": np.full(200, 3)}, r"label 3 is out of range: with 3 classes.*\[0, 2\]"),
        (
            {"labels": np.zeros(199, int)},
            "one entry for each sample; got inputs 200, labels 199, groups 200",
        ),
        (
            {"inputs": np.full((200, 6), np.nan, np.float32)},
            "1200 NaN or Inf values, first in sample 0",
        ),
        ({"test_indices": [0, 200]}, r"test indices must lie in \[0, 199\]"),
        ({"tolerance": None}, "tolerance must be a number ≥ 0.*got None"),
        ({"batch_size": 64.0}, "batch_size must be an integer ≥ 1; got 64.0"),
        ({"seed": "a"}, "seed must be an integer ≥ 0; got a"),
        ({"pruning": {"sparsity": 0.5}}, r"pruning must be a PruningSettings\(...\)"),
        (
            {"pruning": "magnitude", "sparsity": 0.5},
            r"pruning must be a PruningSettings\(...\); got 'magnitude'",
        ),
        ({"settings": "quick"}, r"settings must be a Settings\(...\); got 'quick'"),
        ({"execution": 2}, r"execution must be a training.Execution\(...\); got 2"),
        ({"sparsity": "0.9"}, "fraction of weights removed; got '0.9'"),
        ({"test_indices": []}, "the test split is empty"),
        ({"inputs": np.full((200, 6), "a")}, "inputs must be numbers.*Tokenise or encode texts"),
        (
            {"inputs": np.zeros((200, 6), object)},
            r"Convert it, for instance by .astype\('float32'\)",
        ),
        (
            {"inputs": np.zeros((200, 7), np.float32)},
            r"cannot be applied to inputs of shape \(1, 7\)",
        ),
        ({"inputs": np.zeros((0, 6), np.float32)}, "inputs must hold at least one sample"),
        ({"group_names": ["a", None] * 100}, "some samples have no group name"),
        ({"variables": None}, "a Linen module needs its trained variables"),
    ],
)
def test_mistakes_are_found_before_training(change, text, monkeypatch):
    monkeypatch.setattr(bap_jax.pipeline, "make_tuner", lambda *a, **k: pytest.fail("trained"))
    net, variables = linen_net()
    x, y, groups = arrays()
    call = {"inputs": x, "labels": y, "group_names": groups, "variables": variables}
    call = call | {"test_indices": TEST} | change
    with pytest.raises(bap_jax.UserError, match=text):
        bap_jax.prune_and_tune(net, **{"settings": QUICK, **call})


def test_what_is_in_the_data():
    x, labels, side = arrays()
    x[1] = x[0]  # 0 is a test sample, 1 is not
    call = {"test_indices": TEST, "settings": QUICK}
    summary = bap_jax.prune_and_tune(Net(nnx.Rngs(0)), x, labels, side, **call).data
    assert summary["splits"]["test"] == len(TEST) and sum(summary["splits"].values()) == 200
    copies = summary["duplicates"]
    assert copies["test_in_train"] + copies["test_in_validation"] == 1
    assert {row["name"] for row in summary["groups"]} == {"north", "south"}
    assert [row["name"] for row in summary["labels"]] == ["0", "1", "2"]
