"""Numbers of other implementations: found in the files, never listed.

A file may hold other runs, and may lack a whole kind of arrays. What it does hold is checked: a
setting that no test applies, and an array or entry of no known kind, fail by their names.
"""

import json
import os
import re
from pathlib import Path

import numpy as np

DEFAULT_FOLDER = Path(__file__).parent / "golden"
FOLDER = Path(os.environ.get("BAP_GOLDEN", DEFAULT_FOLDER))
ARRAYS = dict(np.load(FOLDER / "reference.npz", allow_pickle=False))
SETTINGS = json.loads((FOLDER / "reference.json").read_text())

# Names of all arrays by kind. Group 1 is the case, which tests find by the array that comes second.
ARRAY_KINDS = (
    (
        r"(a/[^/]+)/(input|attr|num_groups|intersectional|means|counts|cotangent|input_grad)",
        "means",
    ),
    (r"(a/[^/]+)/(logits|target|sample_acc|ls[\d.]+/sample_loss)", "sample_acc"),
    (
        r"(b/[^/]+)/(attr|metric|num_groups|memory|intersectional|lengths|contents_oldest_first"
        r"|query_(empty_)?(counts|values|avg))",
        "query_values",
    ),
    (r"(b/[^/]+)/group0", "group0"),
    (r"(c/[^/]+)/(x|y|attr|(init|baseline)_[Wb])", "init_W"),
    (
        r"(c/[^/]+)/(lambda|W|b|lagrangian|dual_lagrangian_after_dual_step|(ce_)?loss|surrogate"
        r"|strict|buffer_len|baseline_(train|test)_(avg|group)_(acc|loss))",
        "W",
    ),
    (r"(c/[^/]+/[^/]+)/(params|lambda|lagrangian)", "params"),
    (r"(d/sched/[^/]+)/(amount|should_sparsify)", "amount"),
    (r"(d/prune/[^/]+)/(weight|(io_)?mask_s[\d.]+|kept_s[\d.]+)", "weight"),
    (
        r"(d/gmp(?:/[^/]+)?)/(weight0|noise_added_after_prune|masks|kept|weight_after_noise"
        r"|masks_monotone)",
        "weight0",
    ),
    (r"(d/ceil)/(amount_numel_pruned)", "amount_numel_pruned"),
    (r"d/lr/[^/]+", None),
    (r"e/[^/]+/(x|cotangent|gamma|beta)", None),
    (
        r"(e/[^/]+/[^/]+)/(mask|train\d+_(out|grad_(x|gamma|beta)|running_(mean|var)|num_batches)"
        r"|eval_(out|running_mean))",
        "train0_out",
    ),
    (
        r"(e/[^/]+)/(weight|mask|x|cotangent|out|grad_(x|weight|gamma|beta)|running_(mean|var)"
        r"|feature_mask)",
        "feature_mask",
    ),
    (
        r"(f/[^/]+)/(init/.+|x|y|dense_eval_logits|masked_(eval|train)_logits|train_loss|grad/.+"
        r"|after_train_fwd/.+|mask[\d.]+/.+)",
        "dense_eval_logits",
    ),
    (r"f/mlp/(x|y|init/.+|mask/.+)", None),
    (r"(f/mlp/[^/]+)/(final/.+|lambda_final|lagrangian|loss)", "lambda_final"),
)
# The same for the entries of `reference.json`: group 1 is a case of the arrays.
ENTRY_KINDS = (
    (r"(c/[^/]+)", "W"),
    (r"(c/[^/]+/[^/]+)", "params"),
    (r"(d/sched/[^/]+)", "amount"),
    (r"(d/gmp(?:/[^/]+)?)", "weight0"),
    (r"(d/ceil)/differs_from_exact_rational", "amount_numel_pruned"),
    (r"(e/[^/]+/[^/]+)/(layer_stats|input_overwritten_in_place)", "train0_out"),
    (
        r"f/resnet\d+/(model_stats|masked_layers|model_sq_l2_norm_reference\(last layer only\))",
        None,
    ),
    (r"(f/mlp/[^/]+)/(evaluate_one_epoch_test|train_epoch_log)", "lambda_final"),
    (r"_versions", None),
)
_REQUIRED = object()


def some(found, what: str):
    """What there is to compare; the files of this repository must hold some."""
    assert found or FOLDER != DEFAULT_FOLDER, f"nothing to compare: no {what}"
    return found


def cases(prefix: str, holding: str) -> list[str]:
    """Names below `prefix` whose folder holds the array `holding`, sorted."""
    suffix = f"/{holding}"
    return sorted(
        key[len(prefix) : -len(suffix)]
        for key in ARRAYS
        if key.startswith(prefix) and key.endswith(suffix)
    )


def case(name: str) -> dict[str, np.ndarray]:
    """All arrays below `name/`, by the rest of their names."""
    return {
        key[len(name) + 1 :]: value for key, value in ARRAYS.items() if key.startswith(f"{name}/")
    }


def unknown(names, kinds) -> list[str]:
    """The names that are of no kind, or whose case no test finds.

    Args:
      names: of arrays, or of entries of `reference.json`.
      kinds: `ARRAY_KINDS` or `ENTRY_KINDS`.
    """

    def is_known(name):
        matches = ((re.fullmatch(pattern, name), holding) for pattern, holding in kinds)
        return any(
            match and (holding is None or f"{match[1]}/{holding}" in ARRAYS)
            for match, holding in matches
        )

    return sorted(name for name in names if not is_known(name))


class Settings:
    """The settings of a run, each taken by its name; one that nobody took is an error at the end.

        with golden_files.settings("c/run") as settings:
            rate, nesterov = settings.take("lr"), settings.take("nesterov", False)

    Args:
      name: of the run, for messages.
      values: by the names of the settings.
    """

    def __init__(self, name: str, values: dict):
        self.name, self._left = name, dict(values)

    def __contains__(self, key):
        return key in self._left

    def take(self, key: str, default=_REQUIRED):
        """The value of a setting; without a default it must be there.

        Raises:
          AssertionError: it is not.
        """
        assert key in self._left or default is not _REQUIRED, f"{self.name}: no setting `{key}`"
        return self._left.pop(key, default)

    def part(self, key: str) -> "Settings":
        """The settings within a setting; none where it is absent."""
        return Settings(f"{self.name}/{key}", self.take(key, {}))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            left = ", ".join(f"`{key}` = {value!r}" for key, value in self._left.items())
            assert not left, f"{self.name}: unknown setting {left}"


def settings(name: str) -> Settings:
    """The settings that `reference.json` holds under `name`; none where it has no such entry."""
    return Settings(name, SETTINGS.get(name, {}))


def jaxpruner() -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and manifest of jaxpruner's file; both empty where the folder has none."""
    path = FOLDER / "jaxpruner.npz"
    if not path.exists():
        return {}, {}
    arrays = dict(np.load(path, allow_pickle=False))
    return arrays, json.loads(str(arrays.pop("manifest", "{}")))
