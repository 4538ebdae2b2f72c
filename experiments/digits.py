"""Handwritten digits: MLP 64-256-256-10, groups = the ten classes.

    python -m bap_jax.main --config=experiments/digits.py --workdir=runs/digits

    --config=experiments/digits.py:cpu     the same: the full setting runs on a CPU
    --config=experiments/digits.py:smoke   a small network and few epochs; seconds

Choose a method by --config.method=nft | el | ceag | … (docs/methods.md). All three kernels are
pruned, including the last one, as the reference implementation does with its MLP.

--config.dual.rule=ascent is the paper's plain ascent, with the rate that was tuned on this data:
.7, which is high because there are only 405 constrained steps. The default rule needs no rate.

Expected: the table in docs/results/auto.md; with plain ascent that in docs/results/digits.md. Cost:
about 15 seconds a run on two cores, including the dense model.
"""

from bap_jax.config import choose_setting, default_config


def get_config(setting=""):
    """The paper's schedule on 1,068 training images; `smoke` is shorter."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "digits"
    config.data.group_by = "digit"
    config.model.name = "mlp"
    config.model.hidden = (256, 256)
    config.dense.optimizer.learning_rate = 0.05
    config.pruning.prunable = "kernels"
    config.dual.learning_rate = 0.7  # of dual.rule=ascent
    if setting == "smoke":
        config.model.hidden = (32,)
        config.dense.epochs = 5
        config.pruning.epochs = 2
        config.finetune_epochs = 3
    return config
