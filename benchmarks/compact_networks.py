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
_IMAGES = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
_ROWS = jax.random.normal(jax.random.key(1), (4, 64))
_TOKENS = jax.random.randint(jax.random.key(1), (4, 16), 0, 512)
NETWORKS = {
    "resnet20": (models.build("resnet", 10), _IMAGES),
    "mlp": (models.build("mlp", 10), _ROWS),
    "transformer": (models.build("transformer", 2), _TOKENS),
}


def main(argv):
    del argv
    print(f"{'network':11} {'parameters':>24} {'multiply-adds':>28} {'largest difference':>20}")
    for name, (network, inputs) in NETWORKS.items():
        variables = network.init(jax.random.key(0), inputs)
        updater = pruning.ChannelPruning(
            groups=models.channel_groups(network), sparsity=_SPARSITY.value
        )
        params, masks = updater.instant_sparsify(variables.params)
        masked = variables._replace(params=params)
        small, small_variables = models.compact(network, masks, masked)
        before, after = (
            models.cost(model, arrays, inputs[:1])
            for model, arrays in ((network, masked), (small, small_variables))
        )
        logits, small_logits = (
            model.apply(arrays, inputs, train=False, key=None)[0]
            for model, arrays in ((network, masked), (small, small_variables))
        )
        largest = float(jnp.max(jnp.abs(logits - small_logits)))
        assert np.isclose(largest, 0, atol=1e-5), f"{name}: logits differ by {largest}"
        params_cell = f"{before.params:,} → {after.params:,}"
        adds_cell = f"{before.multiply_adds:,} → {after.multiply_adds:,}"
        print(f"{name:11} {params_cell:>24} {adds_cell:>28} {largest:>20.1e}")


if __name__ == "__main__":
    app.run(main)
