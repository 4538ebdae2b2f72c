"""Weights that PyTorch trained, in built-in networks.

    stage_2_block_0/conv_1/kernel  (h, w, in, out)  ◄─  layer2.0.conv1.weight  (out, in, h, w)
    stage_2_block_0/norm_1/scale, bias, mean, var   ◄─  layer2.0.bn1.weight, bias, running_…
    head/kernel                    (in, class)      ◄─  fc.weight              (class, in)

Names are those of torchvision; the residual networks for CIFAR that are commonly published have the
same.
"""

import pickle
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from bap_jax.models.base import Model
from bap_jax.models.imagenet_resnet import ImageNetResNet
from bap_jax.models.linen import split
from bap_jax.models.mobilenet import MobileNetV2
from bap_jax.models.resnet import ResNet
from bap_jax.trees import leaves_by_path
from bap_jax.types import UserError, Variables, first_of

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
# Keys of layers; one of these that no array takes is of a deeper network.
_OF_LAYERS = re.compile(r"(conv|bn|layer)\d|features\.")
_SHOWN = 3
_OUTER = ("state_dict", "model_state_dict", "model", "net")
_EXPECTED = "expected a mapping of names to tensors. Write it by torch.save(model.state_dict(), …)"


class TorchWeights(NamedTuple):
    """What was found in a file.

    Attributes:
      variables: of the network.
      names: path of each of our arrays -> key in the file.
      unused: keys of the file that no array took.
      fresh: paths of our arrays that the file did not fill: the head, where a new one was wanted.
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
      path: a `.safetensors` file, or a `.pt` or `.pth` file, for which torch must be installed; of
        those weights alone are read, nothing is executed.
      model: `resnet`, `imagenet_resnet` or `mobilenet_v2`, as `models.build` makes them.
      head: `load`; `new` for a head drawn by `key`; or `START:STOP`, the logits to keep of a longer
        head, such as `0:7` (races) and `7:9` (genders) of FairFace's published ResNet-34.
      key: of the new head; by default `jax.random.key(0)`.
      channels: of the images.

    Raises:
      UserError: the file cannot be read, or is of another network; the first differing keys are
        shown.
    """
    rules = _rules(model)
    key = jax.random.key(0) if key is None else key
    example = jnp.zeros((1, 64, 64, channels))
    untrained = jax.eval_shape(lambda key: split(model.module.init(key, example)), key)
    held = read_torch(path)
    params, stats = (leaves_by_path(tree) for tree in untrained)
    wanted = {ours: _torch_key(ours, rules) for ours in (*params, *stats)}
    drawn = _new_head(params["head/kernel"].shape, key) if head == "new" else {}
    rows = _head_rows(head, path, held, wanted["head/bias"])
    found = {
        ours: _converted(held[theirs], ours, rows)
        for ours, theirs in wanted.items()
        if theirs in held and ours not in drawn
    }
    _check_same(path, model, wanted, held, found, {**params, **stats}, drawn)
    whole = {**found, **drawn}

    def fill(tree, leaves):
        values = [jnp.asarray(whole[ours]) for ours in leaves]
        return jax.tree.unflatten(jax.tree.structure(tree), values)

    variables = Variables(fill(untrained.params, params), fill(untrained.state, stats))
    names = {ours: wanted[ours] for ours in found}
    unused = tuple(sorted(set(held) - set(names.values())))
    return TorchWeights(variables, names, unused, tuple(drawn))


def read_torch(path: str) -> dict[str, np.ndarray]:
    """Arrays by key, float32; counters that are no weights are left out.

    Raises:
      UserError: the file is not there, of another kind, damaged, or torch would be needed.
    """
    path = str(path)
    kind = path.rpartition(".")[2]
    readers = {"safetensors": _read_safetensors, "pt": _read_pickled, "pth": _read_pickled}
    if kind not in readers:
        raise UserError(f"{path}: expected a file ending in .safetensors, .pt or .pth.")
    try:
        arrays = readers[kind](path)
    except UserError:
        raise
    except Exception as error:  # both libraries raise many kinds
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} cannot be read as weights: {told}") from error
    _check_finite(path, arrays)
    bare = {_bare(name): array for name, array in arrays.items()}
    if len(bare) < len(arrays):
        raise UserError(
            f"{path} has keys twice, with 'module.' or 'model.' before them and without."
        )
    return {
        name: np.asarray(array, np.float32)
        for name, array in bare.items()
        if not name.endswith("num_batches_tracked")
    }


def _bare(name):
    """Without what wrappers of networks put before the names, in any order."""
    return re.sub(r"^((module|model)\.)+", "", name)


def _check_finite(path, arrays):
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; its training diverged?")


def _read_safetensors(path):
    from safetensors import safe_open

    with safe_open(path, framework="flax") as file:  # NumPy has no bfloat16
        return {name: np.asarray(file.get_tensor(name), np.float32) for name in file.keys()}  # noqa: SIM118


def _read_pickled(path):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path}: reading .pt files takes torch, which is not installed. Install it, or "
            "save the weights with safetensors.torch.save_file and load that file."
        ) from error
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is damaged, or holds more than tensors; {_EXPECTED}.") from error
    if not isinstance(held, Mapping):
        raise UserError(f"{path} holds a {type(held).__name__}, {_EXPECTED}.")
    for outer in _OUTER:
        if isinstance(held.get(outer), Mapping):
            held = held[outer]
    tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        told = first_of(list(map(str, held)), _SHOWN)
        raise UserError(f"{path} holds {told} and no weights, {_EXPECTED}.")
    return {name: tensor.float().numpy() for name, tensor in tensors.items()}


def _rules(model):
    if not isinstance(model, Model):
        raise UserError(
            f"expected a network of models.build or models.from_linen; got {type(model).__name__}."
        )
    for kind, rules in _RULES.items():
        if isinstance(model.module, kind):
            return rules
    known = ", ".join(kind.__name__ for kind in _RULES)
    raise UserError(
        f"weights of PyTorch can be read for {known}; got {type(model.module).__name__}."
    )


def _torch_key(ours, rules):
    layer, _, leaf = ours.removeprefix("batch_stats/").rpartition("/")
    for pattern, theirs in rules:
        if re.fullmatch(pattern, layer):
            return f"{re.sub(pattern, theirs, layer)}.{_LEAVES[leaf]}"
    raise AssertionError(ours)


def _new_head(shape, key):
    drawn = nn.Dense(shape[1]).init(key, jnp.zeros((1, shape[0])))["params"]
    return {f"head/{name}": drawn[name] for name in sorted(drawn)}


def _head_rows(head, path, held, bias):
    if head in ("load", "new"):
        return None
    bounds = re.fullmatch(r"(\d+):(\d+)", str(head))
    if not bounds or int(bounds[1]) >= int(bounds[2]):
        raise UserError(f"head must be 'load', 'new' or 'START:STOP', such as '0:7'; got {head!r}.")
    start, stop = int(bounds[1]), int(bounds[2])
    if bias in held and stop > len(held[bias]):
        raise UserError(
            f"head={head!r}: the head in {path} has {len(held[bias])} logits; write "
            f"'START:STOP' with STOP ≤ {len(held[bias])}."
        )
    return slice(start, stop)


def _converted(array, ours, rows):
    if rows is not None and ours.startswith("head/"):
        array = array[rows]
    if not ours.endswith("/kernel"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _check_same(path, model, wanted, held, found, leaves, drawn):
    other = f"{path} is not of this {type(model.module).__name__}:"
    missing = [
        theirs for ours, theirs in wanted.items() if theirs not in held and ours not in drawn
    ]
    unused = sorted(set(held) - set(wanted.values()))
    if missing:
        beside = first_of(unused, _SHOWN)
        raise UserError(f"{other} it lacks {first_of(missing, _SHOWN)} and has {beside} beside.")
    for ours, array in found.items():
        if array.shape != leaves[ours].shape:
            hint = " Write head='new', or head='START:STOP' to keep some logits of it."
            raise UserError(
                f"{other} {wanted[ours]} makes {ours} of shape {array.shape}, expected "
                f"{leaves[ours].shape}.{hint if ours.startswith('head/') else ''}"
            )
    layers = [theirs for theirs in unused if _OF_LAYERS.match(theirs)]
    if layers:
        raise UserError(f"{other} it has {first_of(layers, _SHOWN)} beside; a deeper one's?")
