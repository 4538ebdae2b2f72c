"""What a data set offers before anyone has chosen labels, groups or splits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bap_jax import groups
from bap_jax.data.records import Records
from bap_jax.data.transforms import image_preprocess
from bap_jax.groups import Grouping
from bap_jax.types import Array, Dataset, Preprocess, UserError


class PixelScale(NamedTuple):
    """How stored pixels 0 … 255 become inputs of a network: (pixel / 255 − mean) / std.

    Attributes:
      mean, std: one number a channel, of pixels divided by 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


# Of the images on which published networks were trained.
IMAGENET_SCALE = PixelScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Source(NamedTuple):
    """A whole data set with all that is known of its samples.

    Attributes:
      inputs: `(sample, ...)`; an array, or `Records` that are read when needed.
      attributes: everything by which samples can be told apart, by name; one column each. The label
        is an attribute like the others.
      target: the attribute that networks learn, unless another one is asked for.
      test_indices: of the data set's own test split; None if it has none.
      validation_indices: likewise.
      scale: of stored pixels; None where inputs are what the network takes.
      skipped: samples that were left out, each with the reason.
      converted: how many images were stored grey, in CMYK or with transparency.
      digests: `(sample,)` uint64 that tell whether two inputs are equal; None if not known.
      identity: a text that other samples, or another order of them, would not have.
    """

    inputs: Array | Records
    attributes: Mapping[str, Grouping]
    target: str
    test_indices: Array | None = None
    validation_indices: Array | None = None
    scale: PixelScale | None = None
    skipped: Sequence[str] = ()
    converted: int = 0
    digests: Array | None = None
    identity: str = ""

    def labelled(self, target: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
        """`(sample,)` int32 class ids, and the names of the classes.

        Args:
          target: name of an attribute; by default the data set's own.

        Raises:
          UserError: there is no such attribute (the message lists those there are), or it has a
            single class.
        """
        target = target or self.target
        if target not in self.attributes:
            known = ", ".join(sorted(self.attributes))
            raise UserError(f"unknown target {target!r}; known attributes: {known}.")
        found = self.attributes[target]
        occurring = np.unique(found.ids[:, 0])
        if occurring.size < 2:
            only = ", ".join(found.names[i] for i in occurring)
            raise UserError(
                f"target {target!r} has the single class {only!r}; expected two or more."
            )
        return found.ids[:, 0], found.names

    def grouped_by(self, expression: str, target: str = "") -> tuple[Dataset, tuple[str, ...]]:
        """The samples with their labels and group ids, and the names of the groups.

        Args:
          expression: attributes, see `groups.grouping`.
          target: see `labelled`.

        Raises:
          UserError: there is no such attribute; the message lists those there are.
        """
        grouping = groups.grouping(self.attributes, expression)
        return Dataset(self.inputs, self.labelled(target)[0], grouping.ids), grouping.names

    def preprocess(self, augmentation: str = "none") -> Preprocess | None:
        """What is done to stored inputs on the device; None for inputs that are taken as they are.

        Raises:
          UserError: the augmentation is unknown, or these inputs are no images to augment.
        """
        if self.scale is None:
            if augmentation != "none":
                raise UserError(
                    f"augmentation {augmentation!r} is for images stored as uint8; this data set "
                    "holds other inputs. Write augmentation='none'."
                )
            return None
        return image_preprocess(*self.scale, augmentation)

    def take(self, indices: Array) -> "Source":
        """The chosen samples alone; without the splits, whose indices would no longer hold."""
        indices = np.asarray(indices)
        attributes = {
            name: Grouping(found.ids[indices], found.names)
            for name, found in self.attributes.items()
        }
        digests = None if self.digests is None else self.digests[indices]
        return self._replace(
            inputs=self.inputs[indices],
            attributes=attributes,
            digests=digests,
            test_indices=None,
            validation_indices=None,
        )
