"""Handwritten digits: MLP 64-256-256-10, groups = the ten classes.

    python -m bap_jax.main --config=experiments/digits.py --workdir=runs/digits

--config=experiments/digits.py:smoke runs in seconds; :cpu is the full setting, which is for CPUs.

Methods: --config.method=nft | el | ceag | … (README.md). All three kernels are pruned, the last one
too, as the reference does with its MLP. Expected: the table in README.md. Cost: about 15 seconds a
run on two cores, the dense model included. The dual rate is high because there are only 405
constrained steps.
"""

from bap_jax.config import choose_setting, default_config


def get_config(setting=""):
    """The paper's schedule on 1,068 training images, or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "digits"
    config.data.group_by = "digit"
    config.model.name = "mlp"
    config.model.hidden = (256, 256)
    config.dense.optimizer.learning_rate = 0.05
    config.pruning.prunable = "kernels"
    config.dual.learning_rate = 0.7
    if setting == "smoke":
        config.model.hidden = (32,)
        config.dense.epochs = 5
        config.pruning.epochs = 2
        config.finetune_epochs = 3
    return config
