"""Everything a data set offers, before labels, groups and splits are chosen."""

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bap_jax import groups
from bap_jax._tables.encoding import ADVICE, GIVE_LABELS, check_option
from bap_jax._tables.shown import count
from bap_jax._user_code import import_object
from bap_jax.data.augment import check_augment, with_augment
from bap_jax.data.inputs import as_inputs, num_samples, select
from bap_jax.data.transforms import by_leaf, image_preprocess
from bap_jax.errors import UserError
from bap_jax.groups import Grouping
from bap_jax.types import Array, Dataset, Preprocess, PyTree

_CHECKED = 8  # samples of the batch with which a user's augmentation is tried


class PixelScale(NamedTuple):
    """How stored pixels 0 … 255 become inputs of a network: (pixel / 255 − mean) / std.

    Attributes:
      mean, std: one number for each channel, of pixels divided by 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


# Mean and standard deviation of ImageNet, on which published networks were trained.
IMAGENET_SCALE = PixelScale((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Source(NamedTuple):
    """A whole data set with everything that is known about its samples.

    Attributes:
      inputs: `(sample, ...)`; an array, a pytree of arrays, or `Records` that are read when needed.
      attributes: the properties of samples by name, one column each. Any of them can be the label
        or define groups.
      target: the attribute that networks learn, unless another one is asked for.
      test_indices: `(test sample,)` indices of the data set's own test split; None if it has none.
      validation_indices: the same for the validation split.
      scale: of stored pixels; None if the network takes the inputs as they are. Where inputs are a
        pytree, a dict with the scale of each leaf that is an image, as `{"photo": scale}` or
        `{"outer/photo": scale}`; the other leaves stay as they are.
      skipped: samples that were left out, each with the reason.
      converted: how many images were stored in grey, in CMYK or with transparency.
      digests: `(sample,)` uint64, equal for equal inputs; None if they are not known.
      identity: a text that changes with the samples and their order; empty if it is not known.
      labels: `(sample, ...)` labels that are no class ids, for a loss of your own; they take the
        place of those of `target`, unless another target is asked for.
      missing: of each attribute that misses values, which samples it misses; they are in a group
        `missing`, which may be used only if it is asked for.
    """

    inputs: PyTree
    attributes: Mapping[str, Grouping]
    target: str
    test_indices: Array | None = None
    validation_indices: Array | None = None
    scale: PixelScale | Mapping[str, PixelScale] | None = None
    skipped: Sequence[str] = ()
    converted: int = 0
    digests: Array | None = None
    identity: str = ""
    labels: Array | None = None
    missing: Mapping[str, str] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Number of samples."""
        return num_samples(self.inputs)

    def labelled(self, target: str = "") -> tuple[np.ndarray, tuple[str, ...]]:
        """`(sample,)` int32 class ids, and the names of the classes.

        Args:
          target: name of an attribute; by default the data set's own target.

        Raises:
          UserError: there is no such attribute (the message lists the known ones), it misses a
            value, or it has only one class.
        """
        target = target or self.target
        if target not in self.attributes:
            known = ", ".join(sorted(self.attributes))
            raise UserError(f"unknown target {target!r}; known attributes: {known}.")
        if target in self.missing:
            raise UserError(f"{self.missing[target]}. {GIVE_LABELS}")
        labels = self.attributes[target]
        present = np.unique(labels.ids[:, 0])
        if present.size < 2:
            names = ", ".join(labels.names[i] for i in present)
            raise UserError(
                f"target {target!r} has the single class {names!r}; expected two or more."
            )
        return labels.ids[:, 0], labels.names

    def grouped_by(
        self, expression: str, target: str = "", *, missing: str = "error"
    ) -> tuple[Dataset, tuple[str, ...]]:
        """The samples with their labels and group ids, and the names of the groups.

        Args:
          expression: which attributes define groups, see `groups.grouping`.
          target: see `labelled`.
          missing: `error`, or `group` to keep samples without a value as a group `missing`.

        Raises:
          UserError: there is no such attribute (the message lists the known ones), or it misses a
            value.
        """
        check_option(missing)
        grouping = groups.grouping(self.attributes, expression)
        for name in itertools.chain(*groups.terms_of(expression, self.attributes)):
            if name in self.missing and missing == "error":
                raise UserError(f"{self.missing[name]}. {ADVICE}")
        inputs = as_inputs(self.inputs)
        labels = self.labels if self.has_own_labels(target) else self.labelled(target)[0]
        return Dataset(inputs, labels, grouping.ids), grouping.names

    def has_own_labels(self, target: str = "") -> bool:
        """Whether labels are `labels`, rather than an attribute called `target`."""
        return self.labels is not None and target in ("", self.target)

    def preprocess(self, augmentation: str = "none") -> Preprocess | None:
        """How stored inputs become inputs of the network, on the device; None if they stay.

        Args:
          augmentation: a name in `AUGMENTATIONS`, for images; or `module:function` for a function
            `(key, inputs) -> inputs`, see `augment`.

        Raises:
          UserError: the augmentation is unknown, the inputs are not images to augment, or
            `augment.check_augment` finds a mistake in the function.
        """
        if ":" in augmentation:
            augment = import_object(augmentation, "augmentation")
            check_augment(augment, as_inputs(self.inputs), _CHECKED)
            return with_augment(augment, self.preprocess())
        if not self.scale:
            if augmentation != "none":
                raise UserError(
                    f"augmentation {augmentation!r} is for images stored as uint8; this data set "
                    "holds other inputs. Write augmentation='none', or 'module:function' for a "
                    "function (key, inputs) -> inputs of your own."
                )
            return None
        if isinstance(self.scale, PixelScale):
            return image_preprocess(*self.scale, augmentation)
        images = {name: image_preprocess(*one, augmentation) for name, one in self.scale.items()}
        return by_leaf(images)

    def take(self, indices: Array) -> "Source":
        """A source with some of the samples.

        It has no test and validation indices, because those would refer to the old order.

        Args:
          indices: `(taken sample,)` of the samples to keep.
        """
        indices = np.asarray(indices)
        attributes = {
            name: Grouping(grouping.ids[indices], grouping.names)
            for name, grouping in self.attributes.items()
        }
        digests = None if self.digests is None else self.digests[indices]
        labels = None if self.labels is None else np.asarray(self.labels)[indices]
        return self._replace(
            inputs=select(as_inputs(self.inputs), indices),
            labels=labels,
            attributes=attributes,
            digests=digests,
            test_indices=None,
            validation_indices=None,
        )


def skipped_text(source: Source) -> str:
    """How many samples of a source that skipped some were left out, and why the first one was."""
    were = "was" if len(source.skipped) == 1 else "were"
    return f"{count(len(source.skipped), 'sample')} {were} left out, the first: {source.skipped[0]}"
