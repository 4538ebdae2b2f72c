"""A multilayer perceptron."""

from collections.abc import Sequence

from flax import linen as nn


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
