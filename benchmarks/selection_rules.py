"""Compares rules that say which iterate of a run is its product, from recorded predictions.

    python benchmarks/record_iterates.py --config=experiments/digits.py --recordings=DIR
    python benchmarks/selection_rules.py --recordings=DIR

Rules read the validation part alone. Judged on that part as well, a rule that chose by it would
look better than it is, so it is crossed over: the validation part is divided at random, within
groups, into halves (or `--folds`); each is judged by the iterate that the other one chose, so that
every sample is judged once, by a choice that did not see it. The mean over `--repeats` of these is
the evidence on which a default is chosen. What the choice costs on the test part comes afterwards.

`selection_measures.py` has the rules and the numbers.
"""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags
from scipy import stats
from selection_measures import MEASURES, RULES, Sample, choices, measure

_RECORDINGS = flags.DEFINE_string("recordings", None, "folder of `record_iterates.py`")
_FOLDS = flags.DEFINE_integer("folds", 2, "parts into which the validation part is divided")
_REPEATS = flags.DEFINE_integer("repeats", 20, "random divisions of the validation part")
_JSON = flags.DEFINE_string("json", None, "file to write every run's numbers to")


class Run(NamedTuple):
    """What one recording says about the rules.

    Attributes:
      experiment: data set, sparsity and method.
      crossed: `(rule, measure)` on the validation part, folds judged by the choice of the others.
      validation, test: `(rule, measure)` of the iterate chosen on the whole validation part.
      epochs: `(rule,)` chosen epochs, counted from 1 of fine-tuning; NaN for the average.
    """

    experiment: str
    crossed: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    epochs: np.ndarray


def load(file: Path) -> Run:
    """Applies all rules to a recording."""
    with np.load(file) as arrays:
        validation, test = (_sample(arrays, part) for part in ("validation", "test"))
        config = json.loads(str(arrays["config"]))
    tolerance = config["tolerance"]
    chosen = choices(validation, tolerance)
    num_iterates = len(test.correct) - 1
    return Run(
        f"{config['data']['name']} {config['pruning']['sparsity']} {config['method']}",
        crossed(validation, tolerance, _FOLDS.value, _REPEATS.value),
        np.array([measure(validation, validation.correct[i]) for i in chosen]),
        np.array([measure(test, test.correct[i]) for i in chosen]),
        np.array([i + 1 if i < num_iterates else np.nan for i in chosen]),
    )


def _sample(arrays, part: str) -> Sample:
    label = arrays[f"{part}_label"]
    predictions = np.vstack([arrays[f"{part}_iterates"], arrays[f"{part}_average"]])
    groups = arrays[f"{part}_group"][:, 0]
    return Sample(arrays[f"{part}_dense"] == label, predictions == label, groups)


def crossed(sample: Sample, tolerance: float, folds: int, repeats: int) -> np.ndarray:
    """`(rule, measure)`, the mean over repeats; no sample is judged by a choice that saw it."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(repeats):
        fold = random_folds(sample.groups, folds, rng)
        judged = np.empty((len(RULES), len(fold)), bool)
        for out in range(folds):
            chosen = choices(sample.part(fold != out), tolerance)
            judged[:, fold == out] = sample.correct[chosen][:, fold == out]
        rows.append([measure(sample, correct, permutations=0) for correct in judged])
    return np.mean(rows, 0)


def random_folds(groups: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """`(sample,)` the fold of each sample, drawn within groups; sizes differ by one at most."""
    order = np.lexsort((rng.random(len(groups)), groups))
    fold = np.empty(len(groups), int)
    fold[order] = np.arange(len(groups)) % folds
    return fold


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half of the 95 % interval of Student's t, of `(run,)` values."""
    if len(values) < 2:
        return float(np.mean(values)), np.nan
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def standard_error(values: np.ndarray) -> float:
    """Of the mean of `(run,)` values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def print_levels(experiments: dict[str, list[Run]]) -> None:
    """One row for each experiment and rule; mean ± standard error over the runs."""
    shown = ("accuracy", "flips", "max ψ")
    heads = [*(f"valid. {name}" for name in shown), *(f"test {name}" for name in MEASURES)]
    print("\nPercent, mean ± standard error; validation judged across folds\n")
    print_row("experiment", "rule", "epoch", *heads)
    print_row("---", "---", *["---:"] * (len(heads) + 1))
    for experiment, runs in experiments.items():
        crossed_values = np.array([run.crossed for run in runs])[:, :, : len(shown)]
        values = 100 * np.concatenate([crossed_values, [run.test for run in runs]], 2)
        epochs = np.median([run.epochs for run in runs], 0)
        for i, rule in enumerate(RULES):
            cells = [with_error(v.mean(), standard_error(v), "") for v in values[:, i].T]
            epoch = "" if np.isnan(epochs[i]) else f"{epochs[i]:g}"
            print_row(f"{experiment} ({len(runs)})", f"`{rule}`", epoch, *cells)


def print_differences(title: str, part: str, experiments: dict[str, list[Run]]) -> None:
    """Paired differences from the last iterate, with 95 % intervals, pooled for each data set.

    Runs of one split share the dense network and the data: their mean is one observation.
    """
    last = RULES.index("last")
    print(f"\n{title}\n")
    columns = [i for i, name in enumerate(MEASURES) if name != "chance"]
    print_row("data", "rule", *(f"{MEASURES[i]} − last" for i in columns))
    print_row("---", "---", *["---:"] * len(columns))
    by_data = defaultdict(list)
    for experiment, runs in experiments.items():
        values = 100 * np.array([getattr(run, part) for run in runs])  # (run, rule, measure)
        by_data[experiment.split()[0]].append(values - values[:, [last]])
    for name, parts in by_data.items():
        num_splits = min(map(len, parts))
        values = np.mean([part[:num_splits] for part in parts], 0)[:, :, columns]
        for i, rule in enumerate(RULES):
            if i != last:
                cells = [with_error(*interval(v), "+") for v in values[:, i].T]
                print_row(f"{name} ({num_splits})", f"`{rule}`", *cells)


def print_regret(experiments: dict[str, list[Run]]) -> None:
    """By how much each rule's mean on the test part exceeds that of the best rule in hindsight."""
    print("\nRegret on the test part: flip rate / Bayes maximum\n")
    print_row("experiment", *(f"`{rule}`" for rule in RULES))
    print_row("---", *["---:"] * len(RULES))
    columns = [MEASURES.index("flips"), MEASURES.index("Bayes max")]
    regrets = {}
    for experiment, runs in experiments.items():
        means = 100 * np.mean([run.test for run in runs], 0)[:, columns]
        regrets[f"{experiment} ({len(runs)})"] = means - means.min(0)
    regrets["mean"] = np.mean(list(regrets.values()), 0)
    for name, regret in regrets.items():
        print_row(name, *(f"{flips:.2f} / {bayes:.2f}" for flips, bayes in regret))


def with_error(mean: float, error: float, sign: str) -> str:
    """`1.23 ± 0.45`; without the error if a single run has none."""
    mean = round(mean, 2) + 0.0  # no −0.00
    return f"{mean:{sign}.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")


def print_row(*cells: str) -> None:
    """A row of a table in Markdown."""
    print(f"| {' | '.join(cells)} |")


def main(argv):
    del argv
    files = sorted(Path(_RECORDINGS.value).glob("*.npz"), key=_by_experiment)
    runs = [load(file) for file in files]
    experiments = {
        name: list(group) for name, group in itertools.groupby(runs, lambda run: run.experiment)
    }
    print_levels(experiments)
    for part, title in {
        "crossed": "Validation, every sample judged by the choice of the other folds",
        "validation": "Validation, chosen and judged on the same samples",
        "test": "Test, chosen on the whole validation part",
    }.items():
        print_differences(f"{title}: points, 95 % intervals", part, experiments)
    print_regret(experiments)
    if _JSON.value:
        rows = [{"file": f.stem, **_plain(run)} for f, run in zip(files, runs, strict=True)]
        Path(_JSON.value).write_text(json.dumps(rows, indent=1))


def _by_experiment(file: Path):
    name, split = file.stem.rsplit("_", 1)
    return name, int(split)


def _plain(run: Run) -> dict:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in run._asdict().items()}


if __name__ == "__main__":
    flags.mark_flag_as_required("recordings")
    app.run(main)
