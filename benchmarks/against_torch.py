"""Our training step beside the step of the paper's code, restated in plain PyTorch.

    python benchmarks/against_torch.py --networks=mlp,resnet20 --json=torch.json
    python benchmarks/against_torch.py --networks=mlp,resnet20 --check

`paper_step_torch.py` says what PyTorch's step does; docs/results/against_torch.md explains it. Both
train on the same data on the device, with the same weights and masks, in one process. A row has
PyTorch's form (`eager`, `compiled`; `vectorised`: constraints without a loop over groups) and the
time of ours over theirs, for single steps and for an epoch in one program: median over rounds of
the ratio of two blocks of a round, with quartiles. The order is reversed every round. Needs torch,
which is not installed with the project.
"""

import timing
import torch_cases
import torch_comparison
import torch_sides
from absl import app, flags

from bap_jax import compilation

_JSON = flags.DEFINE_string("json", None, "file to write the ratios to")
_NETWORKS = flags.DEFINE_list("networks", ["mlp", "resnet20"], "mlp, or resnet with its depth")
_GROUPS = flags.DEFINE_list("groups", [], "default: 10 to 10000 for mlp, 100 for others")
_METHODS = flags.DEFINE_list("methods", list(torch_cases.METHODS), "nft, ceag")
_FORMS = flags.DEFINE_list("forms", list(torch_cases.ON_CPU), "how PyTorch's step is written")
_PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "bfloat16"], "of both passes")
_ROUNDS = flags.DEFINE_integer("rounds", None, "rounds of each case; default: set by the case")
_STEPS = flags.DEFINE_integer("steps", None, "steps of a block; default: set by the case")
_SMALL = flags.DEFINE_bool("small", False, "a tiny network and few steps, to try the script")
_CHECK = flags.DEFINE_bool("check", False, "check that both sides compute the same; no timing")


def make_cases() -> list[torch_cases.Case]:
    """The cases that the flags ask for.

    Raises:
      app.UsageError: a network, method or form is unknown, or a number of groups is no number, or
        `--check` is to compare numbers in bfloat16.
    """
    if _CHECK.value and _PRECISION.value != "float32":
        raise app.UsageError("--check compares exact numbers; leave out --precision")
    changes = {"precision": _PRECISION.value}
    changes |= {"rounds": _ROUNDS.value} if _ROUNDS.value else {}
    changes |= {"steps": _STEPS.value} if _STEPS.value else {}
    if _SMALL.value:
        changes = {**torch_cases.SMALL, **changes}
    try:
        torch_cases.check_known("--methods", _METHODS.value, torch_cases.METHODS)
        torch_cases.check_known("--forms", _FORMS.value, torch_cases.FORMS)
        return [
            torch_cases.case_of(network, int(num_groups), **changes)
            for network in _NETWORKS.value
            for num_groups in _GROUPS.value or torch_cases.default_groups(network)
        ]
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def check(case: torch_cases.Case) -> bool:
    """Prints how far both sides are apart; returns whether that is little."""
    are_equal = True
    for method in _METHODS.value:
        for form in torch_cases.forms_of(method, _FORMS.value):
            apart = torch_comparison.differences(case, method, form)
            is_equal = torch_comparison.agree(apart)
            are_equal = are_equal and is_equal
            numbers = "  ".join(f"{name} {number:.1e}" for name, number in apart.items())
            verdict = "same" if is_equal else "DIFFERENT"
            print(f"{case.network}, {case.num_groups} groups, {method}, {form}: {verdict}")
            print(f"    {numbers}", flush=True)
    return are_equal


def measure(case: torch_cases.Case) -> dict[str, dict[str, float]]:
    """Prints a table for each method; returns all rows by `<network>_<groups>_<method>/<pair>`."""
    rows = {}
    for method in _METHODS.value:
        name = f"{case.network}_{case.num_groups}_{method}"
        forms = torch_cases.forms_of(method, _FORMS.value)
        found = torch_comparison.Comparison(case, method).measure(forms)
        print(f"{name:34} {'theirs':>12} {'ours':>12}   ours / theirs, quartiles")
        for own, form in torch_comparison.pairs_of(forms):
            row = found[f"{own}/{form}"]
            print(
                f"    {f'{own} / {form}':30} {row['against_ms']:9.3f} ms {row['ms']:9.3f} ms   "
                f"{row['ratio']:.3f} ({row['lower_quartile']:.3f} – {row['upper_quartile']:.3f})",
                flush=True,
            )
        rows |= {f"{name}/{pair}": row for pair, row in found.items()}
    return rows


def main(argv):
    del argv
    cases = make_cases()
    try:
        torch_sides.import_torch()
    except ImportError as error:
        raise SystemExit(str(error)) from error
    compilation.keep_programs()
    if _CHECK.value:
        wrong = [case for case in cases if not check(case)]
        if wrong:
            raise SystemExit("our step and that of PyTorch differ")
        return
    rows = {}
    for case in cases:
        rows |= measure(case)
        timing.write(_JSON.value, rows, versions=torch_comparison.versions())


if __name__ == "__main__":
    app.run(main)
