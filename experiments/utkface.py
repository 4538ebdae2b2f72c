"""UTKFace: MobileNetV2, label = gender, groups = race.

    python -m bap_jax.main --config=experiments/utkface.py --data_dir=DIR --workdir=runs/utkface

DIR holds the aligned and cropped faces, AGE_GENDER_RACE_DATE.jpg.chip.jpg. Other settings:

    --config=experiments/utkface.py:cpu    real faces at 32×32, a ResNet-8 of width 16; about three
                                           minutes a run, with two runs at a time on two cores.
                                           Expected at sparsity .95 with CEAG: train max ψ .4,
                                           test accuracy 88 (docs/results/auto.md).
    --config=experiments/utkface.py:smoke  made-up faces, no DIR; under a minute

Method: --config.method=nft | el | ceag | …. Sparsity: --config.pruning.sparsity=0.9.
Intersections: --config.data.group_by="race*gender". Another label: --config.data.target=race.
Pretrained weights: --config.model.pretrained=FILE.safetensors --config.model.pretrained_head=new

The full setting follows the paper (batch 128, SGD .01, 15 + 45 epochs, the paper's test split) and
its code (ε = 1 point); here the network gets 64×64 pixels. The full setting needs an accelerator:
one epoch is 126 steps of MobileNetV2. It has not been run, because no accelerator was available.

--config.dual.rule=ascent is the paper's plain ascent, with the paper's rate 1e-4 and, in `cpu`, the
one that was tuned on this data: .3. The default rule needs no rate.
"""

from bap_jax.config import choose_setting, default_config
from bap_jax.presets import use_made_up_images, use_small_network


def get_config(setting=""):
    """The paper's setting, `cpu` or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "utkface"
    config.data.group_by = "race"
    config.data.test_fraction = 0.0
    config.data.size = 64
    config.data.augmentation = "flip"
    config.model.name = "mobilenet_v2"
    config.tolerance = 0.01
    config.dual.learning_rate = 1e-4  # of dual.rule=ascent
    config.dense.epochs = 60
    for optimizer in (config.optimizer, config.dense.optimizer):
        optimizer.weight_decay = 1e-4
    if setting:
        use_small_network(config)
        config.dense.optimizer.learning_rate = 0.1
        config.optimizer.learning_rate = 0.03
        config.dual.learning_rate = 0.3
    if setting == "cpu":
        config.dense.epochs = 15
        config.pruning.epochs = 4
        config.finetune_epochs = 10
    if setting == "smoke":
        use_made_up_images(config, 400)
    return config
