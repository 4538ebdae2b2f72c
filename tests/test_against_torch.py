"""The comparison with PyTorch: both sides compute the same step, and ours needs no PyTorch.

Tests that need PyTorch, which is not a dependency of the project, are skipped where it is missing.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SMALL_MLP = {"batch": 16, "steps": 2}


@pytest.fixture(autouse=True)
def on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@pytest.fixture
def without_torch(monkeypatch):
    """As if PyTorch were not installed."""
    for name in ("paper_step_torch", "torch_networks"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    importlib.import_module("torch_sides").import_torch.cache_clear()
    yield
    importlib.import_module("torch_sides").import_torch.cache_clear()


def module(name):
    return importlib.import_module(name)


def make_ours(method, num_groups=10):
    """Our side of an MLP, started from weights of its own, and its arrays."""
    cases, sides = module("torch_cases"), module("torch_sides")
    case = cases.Case("mlp", num_groups, dual_rate=1.0, **SMALL_MLP)
    arrays = cases.make_arrays(case)
    variables = sides.make_model(case).init(jax.random.key(0), jnp.asarray(arrays.inputs[:1]))
    return sides.Ours(case, method, arrays, variables), arrays


def test_a_block_visits_every_sample_once():
    cases = module("torch_cases")
    arrays = cases.make_arrays(cases.Case("resnet8", 3, batch=4, steps=5, size=6))
    assert arrays.orders.shape == (5, 4) and sorted(arrays.orders.ravel()) == list(range(20))
    assert arrays.inputs.shape == (20, 6, 6, 3)
    assert arrays.correct.shape == (3, 40) and set(arrays.groups) == {0, 1, 2}


@pytest.mark.parametrize(
    ("network", "changes"),
    [("mlp", {"steps": 20, "rounds": 15}), ("resnet20", {"steps": 1, "rounds": 7})],
)
def test_blocks_are_short_where_a_step_is_long(network, changes):
    case = module("torch_cases").case_of(network, 100, precision="bfloat16")
    assert (case.steps, case.rounds) == (changes["steps"], changes["rounds"])
    assert case.precision == "bfloat16" and case.batch == 128
    assert module("torch_cases").case_of(network, 100, steps=3).steps == 3


@pytest.mark.parametrize("network", ["vgg16", "resnet", "mlp2"])
def test_unknown_networks_are_named(network):
    with pytest.raises(ValueError, match=f"unknown network '{network}'; write mlp"):
        module("torch_cases").case_of(network, 10)


def test_unknown_forms_are_named_with_the_known_ones():
    cases = module("torch_cases")
    cases.check_known("--forms", ["eager", "vectorised"], cases.FORMS)
    with pytest.raises(ValueError, match="--forms: unknown 'eagre'; known: eager, compiled"):
        cases.check_known("--forms", ["eager", "eagre"], cases.FORMS)


def test_without_constraints_nothing_is_vectorised():
    cases = module("torch_cases")
    assert cases.forms_of("nft", cases.ON_CPU) == ["eager", "compiled"]
    assert cases.forms_of("ceag", cases.ON_CPU) == list(cases.ON_CPU)


@pytest.mark.smoke
def test_the_buffers_are_full_from_the_start_and_the_multipliers_move():
    """λ = [v]_+ after one step at rate 1, from the means of the 40 newest values."""
    ours, arrays = make_ours("ceag")
    logits, _ = (
        module("torch_sides")
        .make_model(module("torch_cases").Case("mlp", 10))
        .apply(ours.step.state.variables, ours.train.inputs[arrays.orders[0]], train=True, key=None)
    )
    assert not ours.step.state.lagrangian.dual.multipliers.any()
    state, numbers = ours.step(ours.train, ours.orders[0], jnp.int32(1))
    right = np.asarray(logits.argmax(1) == arrays.labels[arrays.orders[0]])
    assert numbers.accuracy == pytest.approx(right.mean())
    means = []
    for group in range(10):
        own = right[arrays.groups[arrays.orders[0]] == group]
        means.append(np.concatenate([arrays.correct[group], own])[-40:].mean())
    violation = np.mean(means) - np.array(means) - 0.01
    np.testing.assert_allclose(
        state.lagrangian.dual.multipliers, np.maximum(violation, 0), atol=1e-6
    )


@pytest.mark.parametrize("method", ["nft", "ceag"])
def test_steps_and_epoch_hand_over_numbers_of_every_step(method):
    ours, _ = make_ours(method)
    of_steps, of_epoch = ours.run_steps(), ours.run_epoch()
    assert len(of_steps) == 2 and of_epoch.loss.shape == (2,)
    for numbers in (*of_steps, of_epoch):
        assert np.isfinite(np.array(numbers)).all()
    assert int(ours.step.state.step) == 2


def test_masks_keep_five_percent_of_all_but_the_last_layer():
    ours, _ = make_ours("nft")
    state, _ = ours.step(ours.train, ours.orders[0], jnp.int32(0))
    kept = {name: float((layer["kernel"] != 0).mean()) for name, layer in state.params.items()}
    assert kept["dense_0"] == pytest.approx(0.05, abs=1e-4)
    assert kept["dense_1"] == pytest.approx(0.05, abs=1e-4)
    assert kept["dense_2"] == 1


@pytest.mark.parametrize(("number", "is_same"), [(1e-4, True), (2e-4, False), (np.nan, False)])
def test_both_sides_agree_to_a_ten_thousandth(number, is_same):
    assert module("torch_comparison").agree({"loss": 0.0, "weights": number}) is is_same


def test_missing_torch_is_named(without_torch):
    with pytest.raises(ImportError, match="needs the package torch, .*pip install torch"):
        module("torch_sides").import_torch()


def test_the_part_is_left_out_without_torch(without_torch, tmp_path):
    results = module("accelerator_parts.part").Results(tmp_path, small=True)
    module("accelerator_parts.runner").run(
        [module("accelerator_parts.torch_steps").PART], results, 100
    )
    [row] = results.rows
    assert (row["part"], row["case"], row["status"]) == ("torch_steps", "all", "skipped")
    assert "pip install torch" in row["why"]


def test_the_part_is_left_out_on_other_devices(monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    results = module("accelerator_parts.part").Results(tmp_path, small=True)
    part = module("accelerator_parts.torch_steps").PART
    module("accelerator_parts.runner").run([part], results, 100)
    assert [(row["status"], row["why"]) for row in results.rows] == [
        ("skipped", "PyTorch is compared on CPUs and GPUs only; JAX runs on tpu")
    ]


def test_the_part_measures_the_paper_s_own_form_first():
    part, cases = module("accelerator_parts.torch_steps"), module("torch_cases")
    case, forms = part.cases(small=False)[0]
    assert (case.network, case.num_groups, case.precision) == ("resnet56", 100, "float32")
    assert forms[0] == "eager"
    assert all(form in cases.FORMS for _, forms in part.cases(False) for form in forms)
    assert [part.goal_of(method, "eager") for method in cases.METHODS] == [0.5, 0.33]
    assert part.goal_of("ceag", "vectorised") is None


FORMS = [("nft", "eager"), ("ceag", "eager"), ("ceag", "vectorised")]
NETWORKS = [
    ("mlp", 2, {"batch": 128}),  # a batch holds more samples of a group than a buffer
    ("mlp", 100, {}),
    ("resnet8", 10, {"batch": 16, "width": 4, "size": 8}),
]


@pytest.mark.parametrize(("method", "form"), FORMS)
@pytest.mark.parametrize(("network", "num_groups", "changes"), NETWORKS)
def test_both_sides_compute_the_same_step(network, num_groups, changes, method, form):
    pytest.importorskip("torch")
    comparison = module("torch_comparison")
    case = module("torch_cases").Case(network, num_groups, **changes)
    apart = comparison.differences(case, method, form)
    assert apart.keys() >= {"logits", "loss", "accuracy", "weights", "masks"}
    assert comparison.agree(apart), apart


@pytest.mark.parametrize(
    ("name", "value"),
    [("BUFFER_SIZE", 39), ("GroupBuffer.push", lambda buffer, values: None)],
)
def test_another_step_is_noticed(name, value, monkeypatch):
    pytest.importorskip("torch")
    comparison, cases = module("torch_comparison"), module("torch_cases")
    monkeypatch.setattr(f"paper_step_torch.{name}", value)
    apart = comparison.differences(cases.Case("mlp", 10), "ceag", "eager")
    assert apart["multipliers"] > 1e-2 and apart["weights"] > 1e-4, apart


def test_loop_and_arrays_of_buffers_are_the_same_when_buffers_fill():
    """From empty buffers, with groups that a batch lacks or holds more than 40 times."""
    torch = pytest.importorskip("torch")
    paper, rng = module("paper_step_torch"), np.random.default_rng(0)
    reference = paper.Reference(
        *(torch.rand(size, generator=torch.manual_seed(0)) for size in ((4,), (), (4,), ()))
    )
    loop = paper.GroupLoop(reference, torch.zeros((4, 0)))
    arrays = paper.Vectorised(reference, torch.zeros((4, 0)))
    seen = []
    for _ in range(6):
        groups = torch.from_numpy(rng.choice(4, 64, p=[0.75, 0.2, 0.05, 0]))
        batch = (torch.rand(64), (torch.rand(64) < 0.5).float(), groups)
        excess, is_full, proxies, present = loop.observe(*batch)
        other_excess, other_full, other_proxies, _ = arrays.observe(*batch)
        assert is_full.tolist() == other_full.tolist()
        torch.testing.assert_close(excess[is_full], other_excess[is_full])
        torch.testing.assert_close(proxies, other_proxies[present])
        seen.append(is_full.tolist())
    assert seen[0] == [True, False, False, False] and seen[-1][1] and not seen[-1][3]


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.smoke
def test_the_command_writes_ratios(tmp_path):
    pytest.importorskip("torch")
    path = tmp_path / "torch.json"
    flags = ["--networks=mlp", "--groups=10", "--small", "--forms=eager", f"--json={path}"]
    done = python("benchmarks/against_torch.py", *flags)
    assert done.returncode == 0, done.stderr
    times = json.loads(path.read_text())
    pairs = [f"mlp_10_{method}/{own}/eager" for method in ("nft", "ceag") for own in OURS]
    assert list(times["ratios"]) == pairs and times["versions"].keys() == {"jax", "torch"}
    for row in times["details"].values():
        assert row["lower_quartile"] <= row["ratio"] <= row["upper_quartile"]


OURS = ("step", "epoch")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--networks=vgg16", "unknown network 'vgg16'"),
        ("--methods=fed", "--methods: unknown 'fed'; known: nft, ceag"),
        ("--groups=ten", "invalid literal"),
        ("--check --precision=bfloat16", "--check compares exact numbers"),
    ],
)
def test_wrong_flags_are_explained(flag, text):
    done = python("benchmarks/against_torch.py", *flag.split())
    assert done.returncode == 1 and text in done.stdout + done.stderr
