"""Which layers ought to act differently in training."""

import re
from typing import Any

_DROPOUT = re.compile(r"drop_?(out|path|block|connect)|stochastic_?depth", re.IGNORECASE)
_BATCH_NORM = re.compile(r"batch_?norm|batch_?renorm", re.IGNORECASE)
_RATES = ("rate", "dropout_rate", "drop_rate", "drop_prob", "p", "prob")


def switched_kind(module: Any, has_layers: bool) -> str:
    """`dropout`, `batch_norm`, or empty for a layer that acts the same in training.

    Layers are known by the names of their classes. Dropout, of attention weights, too, counts only
    if its rate is not 0.

    Args:
      module: a layer or a network.
      has_layers: whether it consists of other layers, which are looked at by themselves.
    """
    names = " ".join(kind.__name__ for kind in type(module).__mro__)
    rates = [getattr(module, name, None) for name in _RATES]
    rates = [rate for rate in rates if isinstance(rate, int | float)]
    if "Attention" in names and any(rates):
        return "dropout"
    if has_layers:
        return ""
    if _BATCH_NORM.search(names):
        return "batch_norm"
    return "dropout" if _DROPOUT.search(names) and (any(rates) or not rates) else ""
