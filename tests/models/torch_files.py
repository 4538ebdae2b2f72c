"""Made-up contents of PyTorch weight files, and logits that PyTorch computed from them.

python -m tests.models.torch_files          writes torch_logits.json anew; needs torch
"""

import functools
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax import models
from bap_jax.models import torch_weights
from bap_jax.trees import leaves_by_path

CASES = {
    "resnet_8": ("resnet", {"depth": 8, "width": 4}),
    "resnet_18": ("imagenet_resnet", {"depth": 18}),
    "resnet_34": ("imagenet_resnet", {"depth": 34}),
    "resnet_50": ("imagenet_resnet", {"depth": 50}),
    "mobilenet_v2": ("mobilenet_v2", {}),
}
LOGITS = Path(__file__).with_name("torch_logits.json")


@functools.cache
def network(case: str, classes: int = 5) -> models.Model:
    name, options = CASES[case]
    return models.build(name, classes, **options)


def torch_arrays(model: models.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays by PyTorch's names and in its layouts, of sizes as in a trained network.

    Drawn by the name: were two names confused, the logits would differ from PyTorch's.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    held = {}
    for tree in shapes:
        for ours, leaf in sorted(leaves_by_path(tree).items()):
            key = torch_weights._torch_key(ours, torch_weights._rules(model))
            rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
            array = rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
            if ours.endswith("kernel"):
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            else:  # running variances and scales are above zero
                low = 0.5 if ours.endswith(("scale", "var")) else -0.2
                array = rng.uniform(low, low + 1, leaf.shape)
            held[key] = np.ascontiguousarray(array, np.float32)
    return held


def images() -> np.ndarray:
    """Two images of an odd size, for which different paddings give different results."""
    return np.random.default_rng(0).normal(size=(2, 65, 65, 3)).astype(np.float32)


def torch_logits(case: str) -> np.ndarray:
    """Logits computed by PyTorch."""
    import torch

    from tests.models import torch_networks as twins

    twin = {
        "resnet_8": lambda: twins.TorchResNet((1, 1, 1), 5, width=4, stem=3),
        "resnet_18": lambda: twins.TorchResNet((2, 2, 2, 2), 5),
        "resnet_34": lambda: twins.TorchResNet((3, 4, 6, 3), 5),
        "resnet_50": lambda: twins.TorchResNet((3, 4, 6, 3), 5, expansion=4),
        "mobilenet_v2": lambda: twins.TorchMobileNetV2(5),
    }[case]()
    held = {k: torch.from_numpy(v) for k, v in torch_arrays(network(case)).items()}
    found = twin.load_state_dict(held, strict=False)
    assert not found.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in found.missing_keys)
    with torch.no_grad():
        return twin.eval()(torch.from_numpy(images().transpose(0, 3, 1, 2))).numpy()


if __name__ == "__main__":
    found = {case: torch_logits(case).astype(float).round(6).tolist() for case in CASES}
    LOGITS.write_text(json.dumps(found, indent=1) + "\n")
