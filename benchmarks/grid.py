"""A table over settings and seeds: accuracy, max excess gap and disparity of the last iterate.

    python benchmarks/grid.py --config=experiments/digits.py \\
        --axis=method=nft,ceag --axis=pruning.sparsity=0.95,0.98 --seeds=5

One line a combination: mean ± standard deviation over seeds, in percent; in how many seeds the
training max excess gap is within the tolerance plus 0.2 points; how many seeds diverged. Settings
are chosen on the validation split; --split=test is for a table of settings already chosen. Runs of
one data set, network and dense seed share their dense model, and programs once compiled.
"""

import ast
import itertools

import jax
from absl import app, flags
from ml_collections import config_flags
from runs import run_seeds, share_compiled_programs, summarize, titles

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_AXES = flags.DEFINE_multi_string("axis", [], "KEY=VALUE,VALUE,…, a key of the config")
_SPLIT = flags.DEFINE_enum("split", "validation", ["validation", "test"], "second half of columns")
flags.DEFINE_alias("part", "split")
_SEEDS = flags.DEFINE_integer("seeds", 5, "number of seeds")


def parse_axis(text: str) -> tuple[str, list]:
    """`"a.b=1,2"` as `("a.b", [1, 2])`; what is no literal stays a string."""
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
