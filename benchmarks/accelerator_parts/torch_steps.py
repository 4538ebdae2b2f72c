"""Our step over that of the paper's code restated in PyTorch, see `benchmarks/against_torch.py`.

    step     each of our steps is started from Python
    epoch    all of a block in one program

A row is one of these two over one form of PyTorch's step. Goals hold against PyTorch as the paper's
code is written, `eager`, and with its network compiled.
"""

import gc
from typing import Any

import torch_cases
import torch_comparison
import torch_sides
from torch_cases import Case

from accelerator_parts import measure
from accelerator_parts.part import Part, Recorder

GOALS = {"nft": 0.5, "ceag": 0.33}
WITH_GOAL = ("eager", "compiled")
OTHERS = (
    "compiled_channels_last",
    "vectorised",
    "vectorised_graphs",
    "eager_channels_last",
    "vectorised_compiled",
)
# Seconds that a form takes at least: with `torch.compile`, and without it.
COMPILED_NEED, EAGER_NEED = 60, 25


def cases(small: bool) -> list[tuple[Case, tuple[str, ...]]]:
    """What is timed, and forms of PyTorch's step, by value."""
    if small:
        return [(Case("resnet8", 10, **torch_cases.SMALL), ("eager", "vectorised"))]
    networks = {"float32": [], "bfloat16": []}
    for precision, found in networks.items():
        case = Case("resnet56", 100, steps=10, rounds=7, precision=precision)
        found += [(case, WITH_GOAL), (case, OTHERS)]
    mlps = [(Case("mlp", size, steps=20, rounds=7), ("eager",)) for size in (100, 10_000)]
    first, others = networks["float32"]
    return [first, networks["bfloat16"][0], *mlps, others, networks["bfloat16"][1]]


def compare_form(recorder: Recorder, made: dict, case: Case, method: str, form: str) -> None:
    """Two rows; our side is compiled once for each case and method."""
    key = case, method
    if key not in made:
        made[key] = torch_comparison.Comparison(case, method)
    measure.compare(
        recorder,
        name_of(case, method),
        made[key].runs([form]),
        torch_comparison.pairs_of([form]),
        rounds=case.rounds,
        goals={f"{own}/{form}": goal_of(method, form) for own in torch_comparison.OURS},
        per=case.steps,
        **torch_comparison.versions(),
    )


def name_of(case: Case, method: str) -> str:
    """Of the rows of a case."""
    return f"{case.network}_{case.num_groups} {case.precision} {method}"


def goal_of(method: str, form: str) -> float | None:
    """Largest ratio that is wanted; None: there is none."""
    return GOALS[method] if form in WITH_GOAL else None


def run(recorder: Recorder) -> None:
    """All forms of all cases, as far as time goes, if PyTorch is there and knows the device."""
    try:
        torch_sides.torch_device()
        torch, _ = torch_sides.import_torch()
    except (ImportError, RuntimeError) as error:
        recorder.skipped("all", str(error))
        return
    made: dict[Any, Any] = {}
    for case, forms in cases(recorder.small):
        for form in forms:
            need = COMPILED_NEED if torch_cases.FORMS[form].get("compiled") else EAGER_NEED
            for method in torch_cases.METHODS:
                if form in torch_cases.forms_of(method, forms):
                    name = f"{name_of(case, method)} {form}"
                    arguments = (recorder, made, case, method, form)
                    recorder.attempt(name, compare_form, *arguments, need=need)
                    gc.collect()
                    torch.cuda.empty_cache()  # nothing happens without a GPU


PART = Part("torch_steps", "our step ÷ that of the paper's code in PyTorch", 3.0, run)
