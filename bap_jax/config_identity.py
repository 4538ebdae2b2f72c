"""What of a config decides the results of its runs.

Runs whose configs agree in that may share a workdir, a sweep's member is found again by it, and a
dense network is trained once for it. Two kinds of keys are left out, and two kinds of values are
written as earlier versions wrote them:

    without effect    where numbers are written, and the like
    added             a key that configs of earlier versions lack, at the value that stands for what
                      these versions did
    decided by rule   `constraint.estimator`, which was `plain` unless said otherwise, and is where
                      multipliers move by another rule than `auto`
    of one method     `constraint.el_absolute`, which was True, and is read by EL alone
"""

from collections.abc import Mapping
from typing import Any

from bap_jax.training.built_in_methods import BUILT_IN

WITHOUT_EFFECT = ("log",)
_OF_OPTIMIZER = {
    "name": "sgd",
    "schedule": "step",
    "warmup": 0.0,
    "clip_norm": float("inf"),
    "beta1": 0.9,
    "beta2": 0.0,
}
_OF_ONE_METHOD = {key for spec in BUILT_IN.values() for key in spec.own_settings}
ADDED: dict[str, Any] = {
    **{f"optimizer.{key}": value for key, value in _OF_OPTIMIZER.items()},
    **{f"dense.optimizer.{key}": value for key, value in _OF_OPTIMIZER.items()},
    "dual.optimizer": "sgd",
    "loss": "classification",
    "correct": "",
    "data.missing": "error",
    "model.vocabulary": 512,
    "model.heads": 4,
    "model.expansion": 4,
    "model.num_outputs": 0,
}


def deciding(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as plain values without the keys that decide nothing.

    Args:
      config: as plain values; keys may be missing.
      prefix: where in the config it lies, with a dot at the end.

    Example:
      >>> deciding({"seed": 0, "log": "json", "optimizer": {"name": "sgd", "warmup": 0.1}})
      {'seed': 0, 'optimizer': {'warmup': 0.1}}
    """
    kept = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            kept[key] = deciding(value, f"{path}.")
        elif path not in WITHOUT_EFFECT and not (path in ADDED and value == ADDED[path]):
            kept[key] = value
    return kept if prefix else _as_before(kept)


def is_read(key: str, method: str | None) -> bool:
    """Whether a run of this method may depend on a key; of methods of users anything is assumed.

    Example:
      >>> is_read("constraint.el_absolute", "el"), is_read("constraint.el_absolute", "ceag")
      (True, False)
    """
    known = BUILT_IN.get(method or "")
    return known is None or key not in _OF_ONE_METHOD or key in known.own_settings


def _as_before(config):
    """Values without effect as earlier versions wrote them."""
    constraint, rule = config.get("constraint"), config.get("dual", {}).get("rule", "auto")
    changes = {}
    if rule != "auto":
        changes["estimator"] = ("auto", "plain")
    if "method" in config and not is_read("constraint.el_absolute", config["method"]):
        changes["el_absolute"] = (False, True)
    if not isinstance(constraint, Mapping):
        return config
    written = {key: old for key, (now, old) in changes.items() if constraint.get(key) == now}
    return config | {"constraint": {**constraint, **written}}
