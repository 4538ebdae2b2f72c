"""Compares all methods under one tuning budget.

    python benchmarks/compare_methods.py --config=experiments/digits.py --sparsity=0.95 \\
        --json=methods95.json

Each method has six settings (the step sizes in `SETTINGS`), each run with two tuning seeds. The
best setting is chosen on the validation split: the rule of `reporting.selection` is applied to the
last iterate's accuracy and max excess gap, averaged over seeds. Settings that diverged for any seed
are not considered. The best setting is run again with five other seeds, and those runs are
evaluated on the training and test splits. Cost on digits: about 20 minutes on one core.
"""

import json

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from runs import run_seeds, share_compiled_programs, summarize, titles

from bap_jax.reporting import Score, better
from bap_jax.training import METHODS

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_SPARSITY = flags.DEFINE_float("sparsity", 0.95, "target sparsity")
_METHODS = flags.DEFINE_list("methods", list(METHODS), "methods to compare")
_JSON = flags.DEFINE_string("json", None, "file to write settings and rows to")
TUNING_SEEDS, FINAL_SEEDS = range(100, 102), range(5)


def _grid(key, values, rates=(0.01, 0.03)):
    """Settings for each combination of learning rate and value."""
    return [{"optimizer.learning_rate": rate, key: value} for rate in rates for value in values]


_RATES_ONLY = [{"optimizer.learning_rate": rate} for rate in (0.003, 0.01, 0.02, 0.03, 0.05, 0.1)]
_ASCENT = {"dual.rule": "ascent"}  # the rule whose rate is tuned here
_DUAL = [_ASCENT | one for one in _grid("dual.learning_rate", (0.1, 0.3, 0.7))]
SETTINGS = {
    "nft": _RATES_ONLY,
    "el": [{"constraint.el_absolute": True} | one for one in _DUAL],
    "reweighted": _RATES_ONLY,
    "reweighted_sqrt": _RATES_ONLY,
    "class_balanced": _RATES_ONLY,
    "performance_weighted": _grid("baseline.performance_gamma", (0.5, 1.0, 2.0)),
    "penalty": _grid("dual.penalty", (0.3, 1.0, 3.0)),
    "group_dro": _grid("dual.learning_rate", (0.003, 0.01, 0.1)),
    "group_dro_excess": _grid("dual.learning_rate", (0.003, 0.01, 0.1)),
    "distillation": [_ASCENT | one for one in _grid("constraint.kl_limit", (0.003, 0.01, 0.05))],
}


def tune(config, method: str) -> tuple[dict | None, list]:
    """The setting with the best validation score (None if all diverged), and the rows of all."""
    best, best_score, tried = None, None, []
    for changes in SETTINGS.get(method, _DUAL):
        rows = run_seeds(config, TUNING_SEEDS, "validation", {"method": method, **changes})
        tried.append({"setting": changes, "rows": rows})
        jax.clear_caches()
        if not all(rows):
            continue
        accuracy, gap = np.mean(rows, axis=0)[3:5] / 100
        score = Score(accuracy, gap)
        if better(score, best_score, config.tolerance):
            best, best_score = changes, score
    return best, tried


def main(argv):
    del argv
    share_compiled_programs()
    config = _CONFIG.value.copy_and_resolve_references()
    config.pruning.sparsity = _SPARSITY.value
    results = {}
    print(f"sparsity {_SPARSITY.value}")
    print(f"{'method':>22} {titles('test')}  setting")
    for method in _METHODS.value:
        setting, tried = tune(config, method)
        if setting is None:
            print(f"{method:>22} every setting diverged for at least one seed", flush=True)
            continue
        rows = run_seeds(config, FINAL_SEEDS, "test", {"method": method, **setting})
        text = summarize(rows, 100 * config.tolerance + 0.2)
        setting_text = " ".join(f"{key}={value}" for key, value in setting.items())
        print(f"{method:>22} {text}  {setting_text}", flush=True)
        results[method] = {"setting": setting, "tuning": tried, "rows": rows}
        if _JSON.value:
            with open(_JSON.value, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=1)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
