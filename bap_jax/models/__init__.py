"""Networks as pairs of pure functions. The only folder that imports Flax."""

from bap_jax.models.adapt import adapt as adapt
from bap_jax.models.base import Model as Model
from bap_jax.models.channels import channel_groups as channel_groups
from bap_jax.models.compact import compact as compact
from bap_jax.models.convolution import conv_general_dilated as conv_general_dilated
from bap_jax.models.convolution import convolution as convolution
from bap_jax.models.cost import Cost as Cost
from bap_jax.models.cost import cost as cost
from bap_jax.models.imagenet_resnet import ImageNetResNet as ImageNetResNet
from bap_jax.models.kernel_order import kernel_order as kernel_order
from bap_jax.models.linen import from_linen as from_linen
from bap_jax.models.loops import Convolutions as Convolutions
from bap_jax.models.loops import convolutions as convolutions
from bap_jax.models.mlp import MLP as MLP
from bap_jax.models.mobilenet import MobileNetV2 as MobileNetV2
from bap_jax.models.nnx import from_nnx as from_nnx
from bap_jax.models.precision import in_precision as in_precision
from bap_jax.models.preprocessed import with_preprocessing as with_preprocessing
from bap_jax.models.registry import build as build
from bap_jax.models.registry import options as options
from bap_jax.models.resnet import ResNet as ResNet
from bap_jax.models.torch_weights import TorchWeights as TorchWeights
from bap_jax.models.torch_weights import load_torch as load_torch
