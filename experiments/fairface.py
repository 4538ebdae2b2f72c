"""FairFace: ResNet-34, label = race, groups = race.

    python -m bap_jax.main --config=experiments/fairface.py --data_dir=DIR --workdir=runs/fairface

DIR holds fairface_label_train.csv, fairface_label_val.csv and the 0.25-margin images in train/ and
val/. The official validation split is the test split. Other settings:

    --config=experiments/fairface.py:cpu    real faces at 32×32, a ResNet-8 of width 16; about
                                            eight minutes (estimated) a run on two cores
    --config=experiments/fairface.py:smoke  made-up faces, no DIR; under a minute

The paper starts from the network that FairFace publishes, whose 18 logits are races, genders, ages:

    --config.model.pretrained=res34_fair_align_multi_7_20190809.pt
    --config.model.pretrained_head=0:7 --config.dense.epochs=0

With gender as the label: --config.data.target=gender --config.model.pretrained_head=7:9.

The full setting follows the paper (batch 256, SGD .001 with Nesterov momentum .95, ×.1 at 90 %,
weight decay 1e-2, 15 + 32 epochs, horizontal flips) and its code (ε = 1 point). It needs an
accelerator: one epoch is about 288 steps of a ResNet-34 on 224×224 pixels. Neither the
full setting nor `cpu` has been run on the real images, which were not available, so there is no
expected number yet.

--config.dual.rule=ascent is the paper's plain ascent, with the paper's rate 1e-4 (`cpu`: .1).
The default rule needs no rate.
"""

from bap_jax.config import choose_setting, default_config
from bap_jax.presets import use_made_up_images, use_small_network


def get_config(setting=""):
    """The paper's setting, `cpu` or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "fairface"
    config.data.group_by = "race"
    config.data.test_fraction = 0.0
    config.data.size = 224
    config.data.augmentation = "flip"
    config.model.name = "imagenet_resnet"
    config.model.depth = 34
    config.batch_size = config.dense.batch_size = 256
    config.finetune_epochs = 32
    config.dual.learning_rate = 1e-4  # of dual.rule=ascent
    config.dense.epochs = 20
    for optimizer in (config.optimizer, config.dense.optimizer):
        optimizer.learning_rate = 0.001
        optimizer.momentum = 0.95
        optimizer.nesterov = True
        optimizer.milestones = (0.9,)
        optimizer.weight_decay = 1e-2
    config.dense.optimizer.weight_decay = 1e-4
    if setting:
        use_small_network(config)
        config.dense.optimizer.learning_rate = 0.05
        config.optimizer.learning_rate = 0.01
        config.optimizer.weight_decay = 1e-4
        config.dual.learning_rate = 0.1
    if setting == "cpu":
        config.dense.epochs = 10
        config.pruning.epochs = 5
        config.finetune_epochs = 10
    if setting == "smoke":
        use_made_up_images(config, 420)
    return config
