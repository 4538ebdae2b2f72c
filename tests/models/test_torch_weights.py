"""Weights of PyTorch: by name, without torch; and the same logits as torch, where that is there."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from bap_jax import models
from bap_jax.models import load_torch, torch_weights
from bap_jax.models.channels import leaves_by_path
from bap_jax.types import UserError

CASES = {
    "resnet": ("resnet", {"depth": 8, "width": 4}),
    "imagenet_resnet": ("imagenet_resnet", {"depth": 18}),
    "bottleneck": ("imagenet_resnet", {"depth": 50}),
    "mobilenet_v2": ("mobilenet_v2", {}),
}


def network(case, classes=5):
    name, options = CASES[case]
    return models.build(name, classes, **options)


def made_up(model, seed=0):
    """What a file for this network would hold, by PyTorch's names and layouts."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    held = {}
    for tree in shapes:
        for ours, leaf in leaves_by_path(tree).items():
            array = rng.normal(size=leaf.shape).astype(np.float32)
            if ours.endswith("kernel"):
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            key = torch_weights._torch_key(ours, torch_weights._rules(model))
            held[key] = np.ascontiguousarray(array)
    return held


def written(tmp_path, held):
    path = tmp_path / "weights.safetensors"
    save_file(held, path)
    return str(path)


@pytest.mark.parametrize("case", CASES)
def test_every_array_comes_from_one_key(case, tmp_path):
    model = network(case)
    held = made_up(model)
    held["bn1.num_batches_tracked"] = np.array(7)
    found = load_torch(written(tmp_path, held), model)
    assert found.unused == found.fresh == ()
    assert sorted(found.names.values()) == sorted(set(held) - {"bn1.num_batches_tracked"})
    leaves = {k: v for tree in found.variables for k, v in leaves_by_path(tree).items()}
    for ours, theirs in found.names.items():
        array = held[theirs]
        if array.ndim == 4:  # kernel[h, w, i, o] = weight[o, i, h, w]
            np.testing.assert_array_equal(leaves[ours][0, -1, 0, 1], array[1, 0, 0, -1])
        elif array.ndim == 2:
            np.testing.assert_array_equal(leaves[ours][3], array[:, 3])
        else:
            np.testing.assert_array_equal(leaves[ours], array)


def test_names_are_torchvisions():
    names = {case: set(made_up(network(case))) for case in CASES}
    assert {"conv1.weight", "layer3.0.downsample.1.running_var", "fc.bias"} <= names["resnet"]
    assert "layer4.1.bn2.running_mean" in names["imagenet_resnet"]
    assert {"layer1.0.conv3.weight", "layer1.0.downsample.0.weight"} <= names["bottleneck"]
    assert {
        "features.0.0.weight",
        "features.1.conv.0.0.weight",
        "features.1.conv.2.running_mean",
        "features.17.conv.1.0.weight",
        "features.17.conv.3.bias",
        "features.18.1.weight",
        "classifier.1.bias",
    } <= names["mobilenet_v2"]
    assert [len(names[case]) for case in CASES] == [47, 102, 267, 262]


def test_some_logits_of_a_longer_head(tmp_path):
    held = made_up(network("imagenet_resnet", 18))
    path = written(tmp_path, held)
    races = load_torch(path, network("imagenet_resnet", 7), head="0:7")
    genders = load_torch(path, network("imagenet_resnet", 2), head="7:9")
    heads = [found.variables.params["head"] for found in (races, genders)]
    np.testing.assert_array_equal(heads[0]["kernel"], held["fc.weight"][:7].T)
    np.testing.assert_array_equal(heads[1]["bias"], held["fc.bias"][7:9])
    with pytest.raises(
        UserError, match=r"fc.bias makes head/bias of shape \(18,\), expected \(7,\)"
    ):
        load_torch(path, network("imagenet_resnet", 7))
    with pytest.raises(UserError, match=r"Write head='new', or head='START:STOP'"):
        load_torch(path, network("imagenet_resnet", 7))
    for wrong in ("7", "9:7", "all"):
        with pytest.raises(UserError, match="head must be 'load', 'new' or 'START:STOP'"):
            load_torch(path, network("imagenet_resnet", 7), head=wrong)


def test_a_new_head(tmp_path):
    path = written(tmp_path, made_up(network("mobilenet_v2", 1000)))
    found = load_torch(path, network("mobilenet_v2", 2), head="new", key=jax.random.key(1))
    assert found.fresh == ("head/bias", "head/kernel")
    assert found.unused == ("classifier.1.bias", "classifier.1.weight")
    assert found.variables.params["head"]["kernel"].shape == (1280, 2)


def test_another_architecture_shows_the_first_differing_keys(tmp_path):
    path = written(tmp_path, made_up(network("imagenet_resnet")))
    message = "is not of this MobileNetV2: it lacks .*features.* and 2.. more and has bn1.bias, "
    with pytest.raises(UserError, match=message):
        load_torch(path, network("mobilenet_v2"))
    with pytest.raises(
        UserError, match=r"conv1.weight makes conv_0/kernel of shape \(7, 7, 3, 64\)"
    ):
        load_torch(path, network("resnet"))


def test_names_behind_a_prefix_and_unused_keys(tmp_path):
    model = network("resnet")
    held = {f"module.{name}": array for name, array in made_up(model).items()}
    held["module.ema.decay"] = np.ones(1, np.float32)
    found = load_torch(written(tmp_path, held), model)
    assert found.unused == ("ema.decay",)


def test_files_that_are_no_weights(tmp_path):
    model = network("resnet")
    with pytest.raises(UserError, match=r"expected a file ending in .safetensors, .pt or .pth"):
        load_torch("weights.bin", model)
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_torch(str(tmp_path / "none.safetensors"), model)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=re.escape("torn.safetensors cannot be read as weights")):
        load_torch(str(tmp_path / "torn.safetensors"), model)
    with pytest.raises(
        UserError, match="weights of PyTorch can be read for ResNet, ImageNetResNet, "
    ):
        load_torch("x.safetensors", models.build("mlp", 3))


def test_without_torch_a_pt_file_says_so(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="takes torch, which is not installed.*safetensors"):
        load_torch(str(tmp_path / "x.pt"), network("resnet"))


def torch_twin(case):
    from tests.models import torch_networks as twins

    made = {
        "resnet": lambda: twins.TorchResNet((1, 1, 1), 5, width=4, stem=3),
        "imagenet_resnet": lambda: twins.TorchResNet((2, 2, 2, 2), 5),
        "bottleneck": lambda: twins.TorchResNet((3, 4, 6, 3), 5, expansion=4),
        "mobilenet_v2": lambda: twins.TorchMobileNetV2(5),
    }
    return twins.lived_in(made[case]())


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_torch(case, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    twin = torch_twin(case)
    path = tmp_path / "twin.pt"
    torch.save({"state_dict": twin.state_dict()}, path)
    model = network(case)
    variables = load_torch(str(path), model).variables
    # An odd size tells paddings apart.
    images = np.random.default_rng(0).normal(size=(2, 65, 65, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = twin(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    found = model.apply(variables, images, train=False, key=None)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": print}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_torch(str(tmp_path / "evil.pt"), network("resnet"))


def test_half_precision_is_read_as_float32(tmp_path):
    model = network("resnet")
    held = made_up(model)
    path = written(tmp_path, {name: array.astype(np.float16) for name, array in held.items()})
    found = load_torch(path, model).variables.params["head"]["kernel"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, held["fc.weight"].T, rtol=1e-3)
