"""CIFAR-100: ResNet-56, label = fine class, groups = the hundred fine classes.

    python -m bap_jax.main --config=experiments/cifar100.py --data_dir=DIR --workdir=runs/cifar100

DIR holds cifar-100-binary.tar.gz, its content, or cifar100.npz. Other settings:

    --config=experiments/cifar100.py:cpu    real images, a ResNet-8 of width 16, fewer epochs; about
                                            ten minutes a run. Expected with CEAG: train max ψ 5,
                                            test accuracy 38 (README.md).
    --config=experiments/cifar100.py:smoke  made-up images, no DIR; under a minute

Groups of coarse classes: --config.data.group_by=coarse. Pretrained weights:
--config.model.pretrained=cifar100_resnet56.pt --config.dense.epochs=0

The full setting follows the paper (batch 128, SGD .01 with momentum .9, ×.1 at 60, 80 and 90 %,
15 + 45 epochs, sparsity .925) and its code (ε = 10 points; `cpu` uses 5). It needs
an accelerator and has not been run, because none was available. Without pretrained weights the
dense network is first trained for 200 epochs with crops and flips; the paper's code tunes a
published network without them (--config.data.augmentation=none).

--config.dual.rule=ascent is the paper's plain ascent, with the paper's rate 1e-2, also in `cpu`.
The default rule needs no rate.
"""

from bap_jax.config import choose_setting, default_config
from bap_jax.presets import use_made_up_images, use_small_network


def get_config(setting=""):
    """The paper's setting, `cpu` or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "cifar100"
    config.data.group_by = "fine"
    config.data.test_fraction = 0.0
    config.data.validation_fraction = 0.1
    config.data.augmentation = "crop_flip"
    config.model.name = "resnet"
    config.model.depth = 56
    config.tolerance = 0.1
    config.pruning.sparsity = 0.925
    config.dual.learning_rate = 1e-2  # of dual.rule=ascent
    config.dense.epochs = 200
    config.dense.optimizer.learning_rate = 0.1
    for optimizer in (config.optimizer, config.dense.optimizer):
        optimizer.weight_decay = 1e-4
    if setting:
        use_small_network(config)
        config.data.augmentation = "none"
        config.tolerance = 0.05
    if setting == "cpu":
        config.optimizer.learning_rate = 0.03
        config.dense.epochs = 12
        config.pruning.epochs = 4
        config.finetune_epochs = 8
    if setting == "smoke":
        use_made_up_images(config, 1200, batch_size=128)
        config.data.validation_fraction = 0.3
        config.model.width = 8
        config.constraint.min_group_size = 2
        config.constraint.buffer_size = 2
    return config
