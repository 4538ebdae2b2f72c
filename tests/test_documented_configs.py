"""Every experiment file: its settings can be built, and take a step with every method."""

import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import checkpoint, data, experiment, main, task
from bap_jax.config import to_settings
from bap_jax.data import synthetic
from bap_jax.errors import UserError
from bap_jax.pipeline import tuner
from bap_jax.training import METHODS, Execution
from tests.commands import error_of
from tests.experiment_files import NAMES, ROOT, SETTINGS, config_of

QUICK = ("digits", "ceag")  # one of the default tests
CLASSES = {"digits": 10, "utkface": 2, "fairface": 7, "celeba": 2, "cifar100": 100, "census": 2}


def plain_of(name, setting):
    return json.loads(config_of(name, setting).to_json())


def inputs_of(name, size, batch=1):
    """Shapes of the inputs that a network of an experiment takes; images are `size` pixels wide."""
    if name == "census":
        return jax.ShapeDtypeStruct((batch, 16), jnp.int32)
    shape = (8, 8) if name == "digits" else (size, size, 3)
    return jax.ShapeDtypeStruct((batch, *shape), jnp.float32)


def prepared(plain):
    """Data and untrained network of a config."""
    folder = Path(tempfile.mkdtemp())
    loaded = experiment.load_task(plain, Execution(data_cache=str(folder / "cache")))
    checkpoint.save(folder / "dense", loaded.untrained)
    return experiment.Session(loaded, folder / "dense").context


@functools.cache
def ready_of(name):
    """Of the `smoke` setting; once for all methods."""
    return prepared(plain_of(name, "smoke"))


def step_of(plain, context):
    """A function `variables -> (state, metrics)` of a step in which constraints act."""
    plain["constraint"] |= {"buffer_size": 1, "min_group_size": 1}  # observed in the first step
    settings = to_settings(plain)
    compiled = tuner.make_compiled_run(context, settings)
    values = jax.tree.map(lambda leaf: leaf[0], compiled.values([settings]))
    epoch = settings.pruning.epochs  # of the last pruning, from which on constraints act
    arguments = values, compiled.shared, compiled.train, jnp.arange(settings.batch_size), epoch

    def first(variables):
        state = compiled.program.trainer(values, compiled.shared).init(variables, jax.random.key(0))
        state = compiled.program.begin_epoch(state, *arguments)
        return compiled.program.step(state, *arguments)

    return first


def take_a_step(plain, context):
    state, metrics = jax.jit(step_of(plain, context))(context.variables)
    assert np.isfinite(metrics.loss).all()
    assert not metrics.violation.size or np.isfinite(metrics.violation).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.variables.params))
    kept = [np.mean(np.asarray(mask)) for mask in jax.tree.leaves(state.masks)]
    assert min(kept) < 0.5


def every_method_of_every_config():
    """Those of a config run in one process, which prepares its data once.

    Smoke tests: every method with the digits and with one more experiment, and every experiment
    with CEAG. The rest is slow.
    """
    others = [name for name in NAMES if name != "digits"]
    for name, (place, method) in itertools.product(NAMES, enumerate(METHODS)):
        marks = [pytest.mark.xdist_group(name)]
        if name == "digits" or method == "ceag" or others[place % len(others)] == name:
            marks += [pytest.mark.smoke] * ((name, method) != QUICK)
        else:
            marks += [pytest.mark.slow]
        yield pytest.param(name, method, marks=marks)


@pytest.mark.parametrize(("name", "method"), list(every_method_of_every_config()))
def test_one_step_of_every_method(name, method):
    take_a_step(plain_of(name, "smoke") | {"method": method}, ready_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["", "cpu"])
@pytest.mark.parametrize("name", NAMES)
def test_one_step_of_real_settings(name, setting):
    """Their networks and sizes of images; few images, made up, and batches of four."""
    plain, few = plain_of(name, setting), plain_of(name, "smoke")["data"]
    plain["batch_size"] = 4
    plain["constraint"]["min_group_size"] = 1
    plain["data"] |= {key: few[key] for key in ("synthetic", "validation_fraction")}
    if name == "fairface":
        plain["data"]["synthetic"] = 140  # 224×224
    context = prepared(plain)
    take_a_step(plain, context)
    shapes = jax.tree.map(jnp.shape, context.variables.params)
    for method in METHODS:
        state, _ = jax.eval_shape(step_of(plain | {"method": method}, context), context.variables)
        assert jax.tree.map(jnp.shape, state.params) == shapes


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", NAMES)
def test_every_network_fits_its_inputs(name, setting):
    plain = plain_of(name, setting)
    settings = to_settings(plain)
    model = task.make_model(plain["model"], CLASSES[name])
    inputs = inputs_of(name, plain["data"]["size"] or 32, settings.batch_size)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def logits(variables, inputs):
        return model.apply(variables, inputs, train=True, key=jax.random.key(0))[0]

    found = jax.eval_shape(logits, variables, inputs)
    assert found.shape == (settings.batch_size, CLASSES[name])


def test_networks_have_the_sizes_of_the_papers():
    counts = {}
    for name in NAMES:
        plain = plain_of(name, "")
        model = task.make_model(plain["model"], CLASSES[name])
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs_of(name, 64))
        counts[name] = sum(leaf.size for leaf in jax.tree.leaves(variables.params))
    # MobileNetV2, ResNet-18 and ResNet-34 with other heads than ImageNet's, ResNet-56.
    assert counts["cifar100"] == 861_620
    assert counts["utkface"] == 3_504_872 - 1281 * 998
    assert counts["celeba"] == 11_689_512 - 513 * 998
    assert counts["fairface"] == 21_797_672 - 513 * 993


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_list_the_known_ones(name):
    with pytest.raises(UserError, match="unknown setting 'fast' .* known settings: cpu, smoke"):
        config_of(name, "fast")


def test_unknown_settings_have_no_traceback(tmp_path):
    config = f"--config={ROOT / 'experiments' / 'celeba'}.py:fast"
    error = error_of(main.main, config, f"--workdir={tmp_path / 'w'}")
    assert error.startswith("error: unknown setting 'fast' of this config file")
    assert not (tmp_path / "w").exists()


@pytest.mark.smoke
@pytest.mark.parametrize("name", NAMES)
def test_smoke_settings_end_and_write_a_report(name, tmp_path):
    command = [sys.executable, "-m", "bap_jax.main", f"--workdir={tmp_path / 'w'}"]
    command += [f"--config={ROOT / 'experiments' / name}.py:smoke"]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=90, env=environment
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "w" / "report.json").read_text())
    assert np.isfinite(report["splits"]["test"]["sparse_accuracy"])
    summary = json.loads((tmp_path / "w" / "data.json").read_text())
    assert min(summary["splits"].values()) > 0 and "Groups" in done.stdout
    assert summary["made_up"] == ("Made up" in done.stdout) == (name != "digits")


@pytest.mark.smoke
def test_the_users_own_files_by_flags(tmp_path):
    """As for the real CelebA: its files in a folder, a cache that several workdirs share."""
    files = synthetic.make_folder(
        data.DATASETS["celeba"], data.Request(synthetic=300, cache=tmp_path / "files")
    )
    command = [sys.executable, "-m", "bap_jax.main", f"--workdir={tmp_path / 'w'}"]
    command += [f"--config={ROOT / 'experiments' / 'celeba.py'}:smoke", "--config.data.synthetic=0"]
    command += [f"--data_dir={files}", f"--data_cache={tmp_path / 'cache'}"]
    command += ["--config.data.target=Smiling", "--config.data.group_by=Male*Young"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "w" / "data.json").read_text())
    assert not summary["made_up"] and sum(summary["splits"].values()) == 300
    assert [row["name"] for row in summary["labels"]] == ["no_Smiling", "Smiling"]
    assert {row["name"] for row in summary["groups"]} >= {"Male*Young", "no_Male*no_Young"}
    assert any((tmp_path / "cache").glob("celeba-*")) and not (tmp_path / "w/data_cache").exists()
