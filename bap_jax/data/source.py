"""What a data set offers before anyone has chosen groups or parts."""

from collections.abc import Mapping
from typing import NamedTuple

from bap_jax.groups import Grouping, select
from bap_jax.types import Array, Dataset


class Source(NamedTuple):
    """A whole data set with all its groupings.

    Attributes:
      inputs: `(sample, ...)`.
      labels: `(sample,)` int32 class ids.
      num_classes: number of classes.
      attributes: every way in which this data set can be grouped, by name.
    """

    inputs: Array
    labels: Array
    num_classes: int
    attributes: Mapping[str, Grouping]

    def grouped_by(self, attribute: str) -> tuple[Dataset, tuple[str, ...]]:
        """The samples with the ids of one attribute, and the names of its groups.

        Raises:
          UserError: there is no such attribute; the message lists those there are.
        """
        grouping = select(self.attributes, attribute)
        return Dataset(self.inputs, self.labels, grouping.ids), grouping.names
