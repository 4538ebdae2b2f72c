"""CelebA: ResNet-18, label = blond hair, groups = blond hair × male.

    python -m bap_jax.main --config=experiments/celeba.py --data_dir=DIR --workdir=runs/celeba

DIR holds img_align_celeba.zip (or its content as a folder), list_attr_celeba.txt and
list_eval_partition.txt. The official splits are used. Any attribute can be the label
(--config.data.target=Smiling), and any attributes can define groups
(--config.data.group_by="Male*Young"). Other settings:

    --config=experiments/celeba.py:cpu    real faces at 32×32, a ResNet-8 of width 16; an estimated
                                          fifteen minutes a run on two cores
    --config=experiments/celeba.py:smoke  made-up faces, no DIR; under a minute

The paper has no experiment on CelebA, so schedule and rates are this project's choice: a quarter of
the epochs of the paper's UTKFace runs, as there are nine times as many images, and ε = 2 points.
The full setting needs an accelerator: one epoch is 1,272 steps of a ResNet-18. Neither the full
setting nor `cpu` has been run on the real images, which were not available, so there is no expected
number yet.

--config.dual.rule=ascent is the paper's plain ascent, with a rate that is this project's choice as
well. The default rule needs no rate.
"""

from bap_jax.config import choose_setting, default_config
from bap_jax.presets import use_made_up_images, use_small_network


def get_config(setting=""):
    """The full setting, `cpu` or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "celeba"
    config.data.target = "Blond_Hair"
    config.data.group_by = "Blond_Hair*Male"
    config.data.test_fraction = 0.0
    config.data.validation_fraction = 0.0
    config.data.size = 64
    config.data.augmentation = "flip"
    config.model.name = "imagenet_resnet"
    config.model.depth = 18
    config.tolerance = 0.02
    config.pruning.epochs = 4
    config.finetune_epochs = 11
    config.dual.learning_rate = 1e-2  # of dual.rule=ascent
    config.dense.epochs = 15
    for optimizer in (config.optimizer, config.dense.optimizer):
        optimizer.weight_decay = 1e-4
    if setting:
        use_small_network(config)
        config.dense.optimizer.learning_rate = 0.1
    if setting == "cpu":
        config.dense.epochs = 3
        config.pruning.epochs = 2
        config.finetune_epochs = 4
    if setting == "smoke":
        use_made_up_images(config, 500)
    return config
