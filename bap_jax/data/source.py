"""What a data set offers before anyone has chosen groups or parts."""

from collections.abc import Mapping
from typing import NamedTuple

from bap_jax import groups
from bap_jax.data.records import Records
from bap_jax.groups import Grouping
from bap_jax.types import Array, Dataset, Preprocess


class Source(NamedTuple):
    """A whole data set with all its groupings.

    Attributes:
      inputs: `(sample, ...)`; an array, or `Records` that are read when needed.
      labels: `(sample,)` int32 class ids.
      num_classes: number of classes.
      attributes: every way in which this data set can be grouped, by name.
      preprocess: how stored inputs become those of the network; by default they are.
    """

    inputs: Array | Records
    labels: Array
    num_classes: int
    attributes: Mapping[str, Grouping]
    preprocess: Preprocess | None = None

    def grouped_by(
        self, attributes: str, join: str = "intersections"
    ) -> tuple[Dataset, tuple[str, ...]]:
        """The samples with the ids of one or several attributes, and the names of the groups.

        Args:
          attributes: names joined by commas.
          join: of several attributes, `intersections` or `margins`, see `groups.join`.

        Raises:
          UserError: there is no such attribute or join; the message lists those there are.
        """
        names = [name.strip() for name in attributes.split(",")]
        grouping = groups.join([groups.select(self.attributes, name) for name in names], join)
        return Dataset(self.inputs, self.labels, grouping.ids), grouping.names
