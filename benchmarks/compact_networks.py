"""What removing channels saves: parameters and multiply-adds before and after.

    python benchmarks/compact_networks.py --sparsity=0.5

Random networks lose a share of the channels in each channel group. The smaller network must give
the same logits. Cost: seconds.
"""

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from bap_jax import models, pruning

_SPARSITY = flags.DEFINE_float("sparsity", 0.5, "share of the channels to remove")
NETWORKS = {
    "resnet20": (models.ResNet(10, 20), (4, 32, 32, 3)),
    "mlp": (models.MLP((256, 256, 10)), (4, 64)),
}


def main(argv):
    del argv
    print(f"{'network':10} {'parameters':>24} {'multiply-adds':>28} {'largest difference':>20}")
    for name, (network, shape) in NETWORKS.items():
        inputs = jax.random.normal(jax.random.key(1), shape)
        variables = network.init(jax.random.key(0), inputs)
        updater = pruning.ChannelPruning(
            groups=models.channel_groups(network), sparsity=_SPARSITY.value
        )
        params, masks = updater.instant_sparsify(variables["params"])
        masked = {**variables, "params": params}
        small, small_variables = models.compact(network, masks, masked)
        before, after = (
            models.cost(model, arrays, inputs[:1])
            for model, arrays in ((network, masked), (small, small_variables))
        )
        difference = network.apply(masked, inputs) - small.apply(small_variables, inputs)
        largest = float(jnp.max(jnp.abs(difference)))
        assert np.isclose(largest, 0, atol=1e-5), f"{name}: logits differ by {largest}"
        params_cell = f"{before.params:,} → {after.params:,}"
        adds_cell = f"{before.multiply_adds:,} → {after.multiply_adds:,}"
        print(f"{name:10} {params_cell:>24} {adds_cell:>28} {largest:>20.1e}")


if __name__ == "__main__":
    app.run(main)
