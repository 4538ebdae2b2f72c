"""What the `cpu` and `smoke` settings of the experiment files have in common."""

from ml_collections import ConfigDict


def use_small_network(config: ConfigDict) -> None:
    """For CPUs: a ResNet-8 of width 16 whose first convolution has stride 2, on 32×32 pixels."""
    config.update_from_flattened_dict(
        {
            "data.size": 32,
            "model.name": "resnet",
            "model.depth": 8,
            "model.width": 16,
            "model.stem_stride": 2,
        }
    )


def use_made_up_images(config: ConfigDict, images: int, batch_size: int = 32) -> None:
    """For a run of seconds: `images` made-up samples, a few epochs, batches of `batch_size`."""
    config.update_from_flattened_dict(
        {
            "data.synthetic": images,
            "batch_size": batch_size,
            "dense.batch_size": batch_size,
            "dense.epochs": 2,
            "pruning.epochs": 1,
            "finetune_epochs": 1,
        }
    )
