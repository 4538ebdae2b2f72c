"""PyTorch weights: names, and the logits that PyTorch computes from them."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from bap_jax import models
from bap_jax.errors import UserError
from bap_jax.models import load_torch, torch_weights
from bap_jax.trees import leaves_by_path
from tests.models.torch_files import (
    CASES,
    LOGITS,
    images,
    network,
    torch_arrays,
    torch_logits,
)

LARGE = ("resnet_34", "resnet_50", "mobilenet_v2")


def written(tmp_path, held):
    path = tmp_path / "weights.safetensors"
    save_file(held, path)
    return str(path)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.slow) if c == "resnet_34" else c for c in CASES],
)
def test_every_array_comes_from_one_key(case, tmp_path):
    model = network(case)
    held = torch_arrays(model)
    held["bn1.num_batches_tracked"] = np.array(7)
    found = load_torch(written(tmp_path, held), model)
    assert found.unused == found.fresh == ()
    assert sorted(found.names.values()) == sorted(set(held) - {"bn1.num_batches_tracked"})
    variables = jax.device_get(found.variables)
    leaves = {k: v for tree in variables for k, v in leaves_by_path(tree).items()}
    for ours, theirs in found.names.items():
        array = held[theirs]
        if array.ndim == 4:  # kernel[h, w, i, o] = weight[o, i, h, w]
            np.testing.assert_array_equal(leaves[ours][0, -1, 0, 1], array[1, 0, 0, -1])
        elif array.ndim == 2:
            np.testing.assert_array_equal(leaves[ours][3], array[:, 3])
        else:
            np.testing.assert_array_equal(leaves[ours], array)


@pytest.mark.smoke
def test_names_are_torchvisions():
    names = {case: set(torch_arrays(network(case))) for case in CASES}
    assert {"conv1.weight", "layer3.0.downsample.1.running_var", "fc.bias"} <= names["resnet_8"]
    assert "layer4.1.bn2.running_mean" in names["resnet_18"]
    assert {"layer1.0.conv3.weight", "layer1.0.downsample.0.weight"} <= names["resnet_50"]
    assert {
        "features.0.0.weight",
        "features.1.conv.0.0.weight",
        "features.1.conv.2.running_mean",
        "features.17.conv.1.0.weight",
        "features.17.conv.3.bias",
        "features.18.1.weight",
        "classifier.1.bias",
    } <= names["mobilenet_v2"]
    assert [len(names[case]) for case in CASES] == [47, 102, 182, 267, 262]


@pytest.mark.smoke
def test_some_logits_of_a_longer_head(tmp_path):
    held = torch_arrays(network("resnet_18", 18))
    path = written(tmp_path, held)
    races = load_torch(path, network("resnet_18", 7), head="0:7")
    genders = load_torch(path, network("resnet_18", 2), head="7:9")
    heads = [found.variables.params["head"] for found in (races, genders)]
    np.testing.assert_array_equal(heads[0]["kernel"], held["fc.weight"][:7].T)
    np.testing.assert_array_equal(heads[1]["bias"], held["fc.bias"][7:9])
    with pytest.raises(
        UserError, match=r"fc.bias gives head/bias the shape \(18,\), expected \(7,\)"
    ):
        load_torch(path, network("resnet_18", 7))
    with pytest.raises(UserError, match=r"Write head='new', or head='START:STOP'"):
        load_torch(path, network("resnet_18", 7))
    with pytest.raises(UserError, match=r"the head in .* has 18 logits; .*STOP ≤ 18"):
        load_torch(path, network("resnet_18", 7), head="12:19")
    for wrong in ("7", "9:7", "all", None):
        with pytest.raises(UserError, match="head must be 'load', 'new' or 'START:STOP'"):
            load_torch(path, network("resnet_18", 7), head=wrong)


@pytest.mark.smoke
def test_a_new_head(tmp_path):
    path = written(tmp_path, torch_arrays(network("mobilenet_v2", 1000)))
    found = load_torch(path, network("mobilenet_v2", 2), head="new", key=jax.random.key(1))
    assert found.fresh == ("head/bias", "head/kernel")
    assert found.unused == ("classifier.1.bias", "classifier.1.weight")
    assert found.variables.params["head"]["kernel"].shape == (1280, 2)


def test_for_another_architecture_the_first_keys_that_differ_are_shown(tmp_path):
    path = written(tmp_path, torch_arrays(network("resnet_18")))
    message = "does not match this MobileNetV2: it lacks .*features.*, .* and also holds bn1.bias, "
    with pytest.raises(UserError, match=message):
        load_torch(path, network("mobilenet_v2"))
    with pytest.raises(
        UserError, match=r"conv1.weight gives conv_0/kernel the shape \(7, 7, 3, 64\)"
    ):
        load_torch(path, network("resnet_8"))


@pytest.mark.parametrize(
    ("name", "deep", "shallow", "extra"),
    [("imagenet_resnet", 34, 18, "layer1.2.bn1.bias"), ("resnet", 56, 8, "layer1.1.bn1.bias")],
)
def test_weights_of_a_deeper_network_do_not_match(name, deep, shallow, extra, tmp_path):
    path = written(tmp_path, torch_arrays(models.build(name, 5, depth=deep)))
    for head in ("load", "new"):
        message = f"does not match this .*: it also holds {extra}, .* more; is it a deeper network"
        with pytest.raises(UserError, match=message):
            load_torch(path, models.build(name, 5, depth=shallow), head=head)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.model."])
def test_names_with_a_prefix_and_unused_keys(prefix, tmp_path):
    model = network("resnet_8")
    held = {f"{prefix}{name}": array for name, array in torch_arrays(model).items()}
    held[f"{prefix}ema.decay"] = np.ones(1, np.float32)
    found = load_torch(written(tmp_path, held), model)
    assert found.unused == ("ema.decay",)


def test_arrays_that_are_not_finite(tmp_path):
    model = network("resnet_8")
    held = torch_arrays(model)
    held["fc.bias"][0] = np.nan
    with pytest.raises(UserError, match="fc.bias holds NaN or infinity"):
        load_torch(written(tmp_path, held), model)


def test_a_module_is_not_a_model(tmp_path):
    with pytest.raises(UserError, match="models.from_linen; got MLP"):
        load_torch("x.safetensors", models.MLP(3))


def test_files_that_do_not_hold_weights(tmp_path):
    model = network("resnet_8")
    with pytest.raises(UserError, match=r"expected a file ending in .safetensors, .pt or .pth"):
        load_torch("weights.bin", model)
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_torch(str(tmp_path / "none.safetensors"), model)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=re.escape("torn.safetensors cannot be read as weights")):
        load_torch(str(tmp_path / "torn.safetensors"), model)
    with pytest.raises(UserError, match="PyTorch weights can be read for ResNet, ImageNetResNet, "):
        load_torch("x.safetensors", models.build("mlp", 3))


def test_without_torch_a_pt_file_says_so(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="needs torch, which is not installed.*safetensors"):
        load_torch(str(tmp_path / "x.pt"), network("resnet_8"))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.smoke) if case in LARGE else case for case in CASES],
)
def test_logits_are_those_that_torch_computed(case, tmp_path):
    wanted = np.array(json.loads(LOGITS.read_text())[case])
    model = network(case)
    variables = load_torch(written(tmp_path, torch_arrays(model)), model).variables
    logits = jax.jit(lambda variables, x: model.apply(variables, x, train=False, key=None)[0])
    found = logits(variables, images())
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES)
def test_torch_computes_these_logits(case):
    pytest.importorskip("torch")
    wanted = np.array(json.loads(LOGITS.read_text())[case])
    np.testing.assert_allclose(torch_logits(case), wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_file_saved_by_torch(tmp_path):
    torch = pytest.importorskip("torch")
    model = network("resnet_8")
    held = torch_arrays(model)
    path = tmp_path / "twin.pt"
    torch.save({"state_dict": {k: torch.from_numpy(v) for k, v in held.items()}}, path)
    found = load_torch(str(path), model).variables.params["head"]["kernel"]
    np.testing.assert_array_equal(found, held["fc.weight"].T)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"conv1.weight": print}, tmp_path / "evil.pt")
    with pytest.raises(
        UserError, match=r"or holds more than tensors; .* Save it with torch.save\("
    ):
        load_torch(str(tmp_path / "evil.pt"), network("resnet_8"))


@pytest.mark.parametrize(
    ("held", "text"),
    [([1, 2], "holds a list; expected a mapping"), ({"epoch": 3}, "holds epoch and no weights")],
)
def test_files_saved_by_torch_without_weights(held, text, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(UserError, match=text):
        load_torch(str(tmp_path / "x.pt"), network("resnet_8"))


def test_other_entries_in_a_file_saved_by_torch(tmp_path):
    torch = pytest.importorskip("torch")
    model = network("resnet_8")
    held = {f"model.module.{k}": torch.from_numpy(v) for k, v in torch_arrays(model).items()}
    torch.save({"net": held | {"epoch": 3}}, tmp_path / "x.pt")
    assert load_torch(str(tmp_path / "x.pt"), model).unused == ()


def test_an_empty_pt_file(tmp_path, monkeypatch):
    """Torch raises an error without a message for it."""

    def read(path):
        raise EOFError

    monkeypatch.setattr(torch_weights, "_read_pickled", read)
    with pytest.raises(UserError, match="empty.pt cannot be read as weights: EOFError"):
        load_torch(str(tmp_path / "empty.pt"), network("resnet_8"))


def test_half_precision_is_read_as_float32(tmp_path):
    model = network("resnet_8")
    held = torch_arrays(model)
    path = written(tmp_path, {name: array.astype(np.float16) for name, array in held.items()})
    found = load_torch(path, model).variables.params["head"]["kernel"]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, held["fc.weight"].T, rtol=1e-3)
