"""How far groups coincide with classes.

    O_g = (Σ_y P(y | g) P(g | y) − P(g)) / (1 − P(g))

is 1 for a group that is a class, or several whole ones, and 0 for one that is independent of the
label. In between lie groups within a class, such as the women of one of five races where the label
is gender. Where the weight of g grows by the factor e^z, the weight of class y and with
it the logit of y grow by P(g | y) z to first order, and those of all classes by P(g) z on average:
O_g says how much of a multiplier its group feels at once. See docs/method.md, equation (39).
"""

import numpy as np

from bap_jax.types import Array


def class_overlap(labels: Array, group_ids: Array, num_groups: int) -> np.ndarray:
    """O_g of every group.

    Args:
      labels: `(sample,)` class ids.
      group_ids: `(sample, attribute)`, as in `Dataset`.
      num_groups: of all attributes.

    Returns:
      `(group,)` in [0, 1]; 1 for a group without samples, and for one with all of them.
    """
    classes, labels = np.unique(np.asarray(labels), return_inverse=True)
    in_class = np.bincount(labels, minlength=classes.size)
    share, in_group = np.zeros(num_groups), np.zeros(num_groups, int)
    for ids in np.asarray(group_ids).T:
        belongs = (ids >= 0) & (ids < num_groups)
        ids, own = ids[belongs].astype(np.int64), labels[belongs]
        count = np.bincount(ids, minlength=num_groups)
        pairs, both = np.unique(ids * classes.size + own, return_counts=True)
        group, label = np.divmod(pairs, classes.size)
        np.add.at(share, group, both / count[group] * (both / in_class[label]))
        in_group += count
    part = in_group / labels.size
    is_proper = (in_group > 0) & (part < 1)
    overlap = (share - part) / np.where(is_proper, 1 - part, 1)
    return np.clip(np.where(is_proper, overlap, 1), 0, 1)
