"""Reads weights trained with PyTorch into built-in networks.

    stage_2_block_0/conv_1/kernel  (h, w, in, out)  ◄─  layer2.0.conv1.weight  (out, in, h, w)
    stage_2_block_0/norm_1/scale, bias, mean, var   ◄─  layer2.0.bn1.weight, bias, running_…
    head/kernel                    (in, class)      ◄─  fc.weight              (class, in)

The names are those of torchvision; commonly published residual networks for CIFAR have the same
names.
"""

import pickle
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from bap_jax.errors import UserError, first_of
from bap_jax.models.base import Model
from bap_jax.models.imagenet_resnet import ImageNetResNet
from bap_jax.models.linen import split
from bap_jax.models.mobilenet import MobileNetV2
from bap_jax.models.resnet import ResNet
from bap_jax.trees import leaves_by_path
from bap_jax.types import Variables

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_LEAVES |= {"mean": "running_mean", "var": "running_var"}
# Our name of a layer -> PyTorch's; the first pattern that matches.
_RESNET = (
    (r"conv_0", "conv1"),
    (r"norm_0", "bn1"),
    (r"stage_(\d)_block_(\d+)/conv_(\d)", r"layer\1.\2.conv\3"),
    (r"stage_(\d)_block_(\d+)/norm_(\d)", r"layer\1.\2.bn\3"),
    (r"stage_(\d)_block_(\d+)/shortcut_conv", r"layer\1.\2.downsample.0"),
    (r"stage_(\d)_block_(\d+)/shortcut_norm", r"layer\1.\2.downsample.1"),
    (r"head", "fc"),
)
_MOBILENET = (
    (r"stem_conv", "features.0.0"),
    (r"stem_norm", "features.0.1"),
    (r"block_1/depthwise_conv", "features.1.conv.0.0"),
    (r"block_1/depthwise_norm", "features.1.conv.0.1"),
    (r"block_1/project_conv", "features.1.conv.1"),
    (r"block_1/project_norm", "features.1.conv.2"),
    (r"block_(\d+)/expand_conv", r"features.\1.conv.0.0"),
    (r"block_(\d+)/expand_norm", r"features.\1.conv.0.1"),
    (r"block_(\d+)/depthwise_conv", r"features.\1.conv.1.0"),
    (r"block_(\d+)/depthwise_norm", r"features.\1.conv.1.1"),
    (r"block_(\d+)/project_conv", r"features.\1.conv.2"),
    (r"block_(\d+)/project_norm", r"features.\1.conv.3"),
    (r"last_conv", "features.18.0"),
    (r"last_norm", "features.18.1"),
    (r"head", "classifier.1"),
)
_RULES = {ResNet: _RESNET, ImageNetResNet: _RESNET, MobileNetV2: _MOBILENET}
# Keys of layers. If no array uses one of them, it belongs to a deeper network.
_LAYER_KEYS = re.compile(r"(conv|bn|layer)\d|features\.")
_MAX_SHOWN = 3
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_EXPECTED = "expected a mapping of names to tensors. Save it with torch.save(model.state_dict(), …)"


class TorchWeights(NamedTuple):
    """Weights read from a file.

    Attributes:
      variables: of the network.
      names: key in the file of each array, by path of the array.
      unused: keys in the file that no array uses.
      fresh: paths of arrays that do not come from the file: the head, if a new one was asked for.
    """

    variables: Variables
    names: Mapping[str, str]
    unused: tuple[str, ...]
    fresh: tuple[str, ...] = ()


def load_torch(
    path: str, model: Model, *, head: str = "load", key: Any = None, channels: int = 3
) -> TorchWeights:
    """Reads weights of a torchvision ResNet or MobileNetV2, or of a ResNet for CIFAR.

    Args:
      path: a `.safetensors` file, or a `.pt` or `.pth` file, which needs torch to be installed.
        Only weights are read; no code in the file is executed.
      model: a `resnet`, `imagenet_resnet` or `mobilenet_v2` of `models.build`.
      head: `load`; `new` for a random head; or `START:STOP` to keep these logits of a longer head,
        such as `0:7` (races) and `7:9` (genders) of FairFace's published ResNet-34.
      key: random key of the new head; by default `jax.random.key(0)`.
      channels: of the images.

    Raises:
      UserError: the file cannot be read, or does not match the network; the message shows the first
        keys that differ.
    """
    rules = _rules(model)
    key = jax.random.key(0) if key is None else key
    example = jnp.zeros((1, 64, 64, channels))
    untrained = jax.eval_shape(lambda key: split(model.module.init(key, example)), key)
    tensors = _read_torch(path)
    params, stats = (leaves_by_path(tree) for tree in untrained)
    keys = {ours: _torch_key(ours, rules) for ours in (*params, *stats)}
    new_head = _new_head(params["head/kernel"].shape, key) if head == "new" else {}
    rows = _head_rows(head, path, tensors, keys["head/bias"])
    loaded = {
        ours: _converted(tensors[theirs], ours, rows)
        for ours, theirs in keys.items()
        if theirs in tensors and ours not in new_head
    }
    _check_same(path, model, keys, tensors, loaded, {**params, **stats}, new_head)
    arrays = {**loaded, **new_head}

    def fill(tree, leaves):
        values = [jnp.asarray(arrays[ours]) for ours in leaves]
        return jax.tree.unflatten(jax.tree.structure(tree), values)

    variables = Variables(fill(untrained.params, params), fill(untrained.state, stats))
    names = {ours: keys[ours] for ours in loaded}
    unused = tuple(sorted(set(tensors) - set(names.values())))
    return TorchWeights(variables, names, unused, tuple(new_head))


def _read_torch(path: str) -> dict[str, np.ndarray]:
    """Arrays by key, float32; counters, which are not weights, are left out.

    Raises:
      UserError: the file does not exist, has another format or is damaged, or torch is missing.
    """
    path = str(path)
    suffix = path.rpartition(".")[2]
    readers = {"safetensors": _read_safetensors, "pt": _read_pickled, "pth": _read_pickled}
    if suffix not in readers:
        raise UserError(f"{path}: expected a file ending in .safetensors, .pt or .pth.")
    try:
        arrays = readers[suffix](path)
    except UserError:
        raise
    except Exception as error:  # both libraries raise exceptions of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    _check_finite(path, arrays)
    bare = {_bare(name): array for name, array in arrays.items()}
    if len(bare) < len(arrays):
        raise UserError(
            f"{path} has keys twice, with and without 'module.', 'model.' or '_orig_mod.' in front."
        )
    return {
        name: np.asarray(array, np.float32)
        for name, array in bare.items()
        if not name.endswith("num_batches_tracked")
    }


def _bare(name):
    """The name without the prefixes that wrappers of networks add, in any order."""
    return re.sub(r"^((module|model|_orig_mod)\.)+", "", name)


def _check_finite(path, arrays):
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; did its training diverge?")


def _read_safetensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="flax") as file:  # NumPy has no bfloat16
        return {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118


def _read_pickled(path):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: reading .pt files needs torch, which is not installed. Install it, or save "
            "the weights with safetensors.torch.save_file and load that file."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is damaged, or holds more than tensors; {_EXPECTED}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}; {_EXPECTED}.")
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        names = first_of(list(map(str, content)), _MAX_SHOWN)
        raise UserError(f"{path} holds {names} and no weights; {_EXPECTED}.")
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _rules(model):
    if not isinstance(model, Model):
        raise UserError(
            f"expected a Model of models.build or models.from_linen; got {type(model).__name__}."
        )
    for network, rules in _RULES.items():
        if isinstance(model.module, network):
            return rules
    known = ", ".join(network.__name__ for network in _RULES)
    raise UserError(f"PyTorch weights can be read for {known}; got {type(model.module).__name__}.")


def _torch_key(ours, rules):
    layer, _, leaf = ours.removeprefix("batch_stats/").rpartition("/")
    for pattern, theirs in rules:
        if re.fullmatch(pattern, layer):
            return f"{re.sub(pattern, theirs, layer)}.{_LEAVES[leaf]}"
    raise AssertionError(ours)


def _new_head(shape, key):
    arrays = nn.Dense(shape[1]).init(key, jnp.zeros((1, shape[0])))["params"]
    return {f"head/{name}": arrays[name] for name in sorted(arrays)}


def _head_rows(head, path, tensors, bias):
    """Which logits of the head in the file to take; None for all."""
    if head in ("load", "new"):
        return None
    bounds = re.fullmatch(r"(\d+):(\d+)", str(head))
    if not bounds or int(bounds[1]) >= int(bounds[2]):
        raise UserError(f"head must be 'load', 'new' or 'START:STOP', such as '0:7'; got {head!r}.")
    start, stop = int(bounds[1]), int(bounds[2])
    if bias in tensors and stop > len(tensors[bias]):
        raise UserError(
            f"head={head!r}: the head in {path} has {len(tensors[bias])} logits; write "
            f"'START:STOP' with STOP ≤ {len(tensors[bias])}."
        )
    return slice(start, stop)


def _converted(array, ours, rows):
    if rows is not None and ours.startswith("head/"):
        array = array[rows]
    if not ours.endswith("/kernel"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _check_same(path, model, keys, tensors, loaded, leaves, new_head):
    """Checks that the file holds this network, and no deeper one."""
    mismatch = f"{path} does not match this {type(model.module).__name__}:"
    missing = [
        theirs for ours, theirs in keys.items() if theirs not in tensors and ours not in new_head
    ]
    unused = sorted(set(tensors) - set(keys.values()))
    if missing:
        extra = first_of(unused, _MAX_SHOWN)
        raise UserError(
            f"{mismatch} it lacks {first_of(missing, _MAX_SHOWN)} and also holds {extra}."
        )
    for ours, array in loaded.items():
        if array.shape != leaves[ours].shape:
            hint = " Write head='new', or head='START:STOP' to keep some of its logits."
            raise UserError(
                f"{mismatch} {keys[ours]} gives {ours} the shape {array.shape}, expected "
                f"{leaves[ours].shape}.{hint if ours.startswith('head/') else ''}"
            )
    layers = [theirs for theirs in unused if _LAYER_KEYS.match(theirs)]
    if layers:
        raise UserError(
            f"{mismatch} it also holds {first_of(layers, _MAX_SHOWN)}; is it a deeper network?"
        )
