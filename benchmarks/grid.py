"""A table over settings: accuracy, max excess gap and disparity of the last iterate.

    python benchmarks/grid.py --config=experiments/digits.py \\
        --axis=method=nft,ceag --axis=pruning.sparsity=0.95,0.98 --seeds=5

Each combination has one line, in percent: mean ± standard deviation over seeds; for how many seeds
the max excess gap on the training split is within the tolerance plus 0.2 points; and how many seeds
diverged. Use the validation split (the default) to choose settings, and --split=test only for
settings that are already chosen. Runs with the same data set, network and dense seed share their
dense model, and compiled programs are reused.
"""

import ast
import itertools

import jax
from absl import app, flags
from ml_collections import config_flags
from runs import run_seeds, share_compiled_programs, summarize, titles

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_AXES = flags.DEFINE_multi_string("axis", [], "KEY=VALUE,VALUE,… of the config; repeatable")
_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["validation", "test"], "split of the second half of the columns"
)
flags.DEFINE_alias("part", "split")
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds")


def parse_axis(text: str) -> tuple[str, list]:
    """`"a.b=1,2"` as `("a.b", [1, 2])`; a value that is not a literal stays a string."""
    key, _, values = text.partition("=")
    return key, [_literal(value) for value in values.split(",")]


def _literal(value):
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return float(value) if value == "inf" else value


def main(argv):
    del argv
    share_compiled_programs()
    axes = [parse_axis(text) for text in _AXES.value]
    head = " ".join(f"{key.split('.')[-1][:14]:>14}" for key, _ in axes)
    print(head, titles(_SPLIT.value))
    for values in itertools.product(*(values for _, values in axes)):
        changes = {key: value for (key, _), value in zip(axes, values, strict=True)}
        rows = run_seeds(_CONFIG.value, range(_SEEDS.value), _SPLIT.value, changes)
        label = " ".join(f"{value!s:>14}" for value in values)
        tolerance = changes.get("tolerance", _CONFIG.value.tolerance)
        print(label, summarize(rows, 100 * tolerance + 0.2), flush=True)
        jax.clear_caches()


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
