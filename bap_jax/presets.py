"""What the experiment files' `cpu` and `smoke` settings have in common."""

from ml_collections import ConfigDict


def use_small_network(config: ConfigDict) -> None:
    """A ResNet-8 of width 16 with stride 2 in front, on 32×32 pixels: for CPUs."""
    config.data.size = 32
    config.model.name = "resnet"
    config.model.depth = 8
    config.model.width = 16
    config.model.stem_stride = 2


def use_made_up_images(config: ConfigDict, images: int, batch_size: int = 32) -> None:
    """A run of seconds: `images` made-up ones and four epochs, in batches of `batch_size`."""
    config.data.synthetic = images
    config.batch_size = config.dense.batch_size = batch_size
    config.dense.epochs = 2
    config.pruning.epochs = 1
    config.finetune_epochs = 1
