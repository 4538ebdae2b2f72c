"""Crops, flips and normalises images on the device, before they enter the network.

    x = (pixel / scale − mean) / std         after augmentation, which moves stored pixels

Images are `(batch, height, width, channel)`; every image is augmented by its own random draw.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from bap_jax.errors import UserError
from bap_jax.trees import leaf_paths, path_name
from bap_jax.types import Array, Preprocess


class Augmentation(Protocol):
    """Changes images at random; keeps their shape and type."""

    def __call__(self, key: Array, images: Array, /) -> Array:
        """Returns the changed images `(batch, height, width, channel)`."""
        ...


def normalize(
    mean: float | Sequence[float], std: float | Sequence[float], scale: float = 255.0
) -> Callable[[Array], Array]:
    """`images -> (images / scale − mean) / std` in float32.

    Args:
      mean: of pixels divided by `scale`; one number, or one for each channel.
      std: likewise.
      scale: the largest stored value.

    Raises:
      UserError: a standard deviation or the scale is not positive.

    Example:
      >>> normalize(mean=0.5, std=0.5)(np.array([[0, 255]], np.uint8)).tolist()
      [[-1.0, 1.0]]
    """
    means, stds = (np.asarray(values, np.float32).ravel() for values in (mean, std))
    if not ((stds > 0).all() and scale > 0):
        raise UserError(f"std and scale must be positive; got std {stds.tolist()}, scale {scale}.")
    factor, shift = 1 / (scale * stds), means / stds

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
    """Shifts every image by up to `padding` pixels along both axes and fills up with zeros."""
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)
    edges = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edges, edges, (0, 0)))

    def crop(image, offset):
        return jax.lax.dynamic_slice(image, (*offset, 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def compose(*augmentations: Augmentation) -> Augmentation:
    """Applies augmentations one after the other, each with a separate key."""

    def apply(key, images):
        for i, augment in enumerate(augmentations):
            images = augment(jax.random.fold_in(key, i), images)
        return images

    return apply


AUGMENTATIONS: dict[str, Augmentation] = {
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
    """A function that augments images in training and always normalises them.

    Args:
      mean: see `normalize`.
      std: see `normalize`.
      augmentation: a name in `AUGMENTATIONS`, or an `Augmentation`.
      scale: see `normalize`.

    Returns:
      `(images, key, train) -> inputs`, see `models.with_preprocessing`.

    Raises:
      UserError: the augmentation is unknown; the message lists the known ones.
    """
    if isinstance(augmentation, str) and augmentation not in AUGMENTATIONS:
        raise UserError(
            f"unknown augmentation {augmentation!r}; known augmentations: "
            f"{', '.join(AUGMENTATIONS)}."
        )
    augment = AUGMENTATIONS[augmentation] if isinstance(augmentation, str) else augmentation
    to_inputs = normalize(mean, std, scale)

    def preprocess(inputs, key, train):
        if train and key is not None:
            inputs = augment(key, inputs)
        return to_inputs(inputs)

    return preprocess


def by_leaf(preprocess: Mapping[str, Preprocess]) -> Preprocess:
    """A function that treats some leaves of a pytree of inputs; the others stay as they are.

    All of them see the same key, so that a photo and its depth map are flipped together.

    Args:
      preprocess: by the path of the leaf, as `photo` or `outer/photo`.
    """

    def of_all(inputs, key, train):
        known = leaf_paths(inputs)
        for name in preprocess:
            if name not in known:
                raise UserError(f"inputs have no leaf {name!r}; they have {', '.join(known)}.")

        def of_one(path, leaf):
            own = preprocess.get(path_name(path))
            return leaf if own is None else own(leaf, key, train)

        return jax.tree_util.tree_map_with_path(of_one, inputs)

    return of_all
