"""Images on their way into a network, on the device: cropped, flipped, normalised.

    x = (pixel / scale − mean) / std         after augmentation, which moves stored pixels

Images are `(batch, height, width, channel)`, each with a draw of its own. An augmentation is a
function `(key, images) -> images` that keeps shape and type.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.types import Array, Preprocess, UserError

Augmentation = Callable[[Array, Array], Array]


def normalize(
    mean: float | Sequence[float], std: float | Sequence[float], scale: float = 255.0
) -> Callable[[Array], Array]:
    """`images -> (images / scale − mean) / std` in float32.

    Args:
      mean: one number, or one a channel, of pixels divided by `scale`.
      std: as `mean`.
      scale: the largest value that is stored.

    Raises:
      UserError: a standard deviation or the scale is not positive.
    """
    mean, std = (np.asarray(values, np.float32).ravel() for values in (mean, std))
    if not ((std > 0).all() and scale > 0):
        raise UserError(f"std and scale must be positive; got std {std.tolist()}, scale {scale}.")
    factor, shift = 1 / (scale * std), mean / std

    def apply(images):
        ones = (1,) * (images.ndim - 1)
        images = jnp.asarray(images, jnp.float32)
        return images * factor.reshape(*ones, -1) - shift.reshape(*ones, -1)

    return apply


def random_flip(key: Array, images: Array) -> Array:
    """Mirrors every image left to right with probability 1/2."""
    flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def random_crop(key: Array, images: Array, padding: int = 4) -> Array:
    """Moves every image by up to `padding` pixels either way along both axes; zeros come in."""
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)
    edges = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edges, edges, (0, 0)))

    def crop(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def compose(*augmentations: Augmentation) -> Augmentation:
    """One after the other, each with a key of its own."""

    def apply(key, images):
        for i, augment in enumerate(augmentations):
            images = augment(jax.random.fold_in(key, i), images)
        return images

    return apply


AUGMENTATIONS = {
    "none": compose(),
    "flip": random_flip,
    "crop_flip": compose(random_crop, random_flip),
}


def image_preprocess(
    mean: float | Sequence[float],
    std: float | Sequence[float],
    augmentation: str | Augmentation = "none",
    scale: float = 255.0,
) -> Preprocess:
    """Augments in training, and normalises always.

    Args:
      mean: see `normalize`.
      std: see `normalize`.
      augmentation: a name in `AUGMENTATIONS`, or a function `(key, images) -> images`.
      scale: see `normalize`.

    Raises:
      UserError: the augmentation is unknown; the message lists the known ones.
    """
    if not callable(augmentation) and augmentation not in AUGMENTATIONS:
        raise UserError(
            f"unknown augmentation {augmentation!r}; known augmentations: "
            f"{', '.join(AUGMENTATIONS)}."
        )
    augment = augmentation if callable(augmentation) else AUGMENTATIONS[augmentation]
    to_inputs = normalize(mean, std, scale)

    def preprocess(inputs, key, train):
        if train and key is not None:
            inputs = augment(key, inputs)
        return to_inputs(inputs)

    return preprocess
