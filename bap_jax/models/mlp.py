"""A multilayer perceptron."""

import itertools
from collections.abc import Mapping, Sequence

from flax import linen as nn

from bap_jax.models.channels import check_names
from bap_jax.types import ChannelGroup


class MLP(nn.Module):
    """Dense layers with ReLU between them; inputs are flattened.

    Attributes:
      features: width of each layer, the last one the number of classes.
    """

    features: Sequence[int]

    @nn.compact
    def __call__(self, inputs):
        x = inputs.reshape(inputs.shape[0], -1)
        for i, width in enumerate(self.features):
            x = nn.Dense(width, name=f"dense_{i}")(nn.relu(x) if i else x)
        return x

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """One group for each hidden layer, with the name of the layer."""
        names = [f"dense_{i}" for i in range(len(self.features))]
        return tuple(
            ChannelGroup(
                name,
                producers=(f"{name}/kernel",),
                vectors=(f"{name}/bias",),
                consumers=(f"{reader}/kernel",),
            )
            for name, reader in itertools.pairwise(names)
        )

    def with_channels(self, widths: Mapping[str, int]) -> "MLP":
        """The same network with other widths, by name of group.

        Raises:
          UserError: a name is unknown.
        """
        check_names(self, widths)
        features = (widths.get(f"dense_{i}", old) for i, old in enumerate(self.features))
        return self.clone(features=tuple(features))
