"""Networks as pairs of pure functions. The only package that imports Flax."""

from bap_jax._deprecated import former_names
from bap_jax.models.adapt import adapt
from bap_jax.models.base import Model
from bap_jax.models.channels import channel_groups
from bap_jax.models.compact import compact
from bap_jax.models.convolution import conv_general_dilated, convolution
from bap_jax.models.cost import Cost, cost
from bap_jax.models.imagenet_resnet import ImageNetResNet
from bap_jax.models.kernel_order import kernel_order
from bap_jax.models.linen import from_linen
from bap_jax.models.mlp import MLP
from bap_jax.models.mobilenet import MobileNetV2
from bap_jax.models.modes import check_modes
from bap_jax.models.nnx import from_nnx
from bap_jax.models.precision import in_precision
from bap_jax.models.preprocessed import with_preprocessing
from bap_jax.models.registry import build, options
from bap_jax.models.resnet import ResNet
from bap_jax.models.torch_weights import TorchWeights, load_torch
from bap_jax.models.transformer import Transformer

__all__ = [
    "MLP",
    "Cost",
    "ImageNetResNet",
    "MobileNetV2",
    "Model",
    "ResNet",
    "TorchWeights",
    "Transformer",
    "adapt",
    "build",
    "channel_groups",
    "check_modes",
    "compact",
    "conv_general_dilated",
    "convolution",
    "cost",
    "from_linen",
    "from_nnx",
    "in_precision",
    "kernel_order",
    "load_torch",
    "options",
    "with_preprocessing",
]

__getattr__ = former_names(
    "bap_jax.models",
    {
        "Convolutions": "bap_jax.models.loops.Convolutions",
        "convolutions": "bap_jax.models.loops.convolutions",
    },
)
