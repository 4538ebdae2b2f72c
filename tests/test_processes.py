"""Several processes, or devices, give what one gives; files are the first process's."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bap_jax import checkpoint, experiment, models, sharding
from bap_jax.errors import UserError
from bap_jax.training import Execution
from bap_jax.types import Variables
from tests.test_experiment import tiny

ROOT = Path(__file__).parents[1]
TINY = (
    "--config.model.hidden=(16,)",
    "--config.dense.epochs=3",
    "--config.pruning.epochs=2",
    "--config.finetune_epochs=2",
    "--config.selection=flips",
)


def start(*flags, module="main", devices=1):
    command = [sys.executable, "-m", f"bap_jax.{module}", "--config=experiments/digits.py", *flags]
    xla = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": xla},
    )


def finish(processes, seconds=240):
    """Exit codes, and what each wrote to its terminal."""
    try:
        texts = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], texts


def together(*flags, workdirs, module="main", own=((), ())):
    """Two processes of one device each, each with a workdir and flags of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = (f"--coordinator_address=localhost:{port}", "--num_processes=2", *flags)
    return finish(
        [
            start(*shared, f"--process_id={i}", f"--workdir={workdirs[i]}", *own[i], module=module)
            for i in range(2)
        ]
    )


def counts(report):
    return [report["epoch"], report["splits"], report["last"]["epoch"], report["last"]["splits"]]


def read(folder):
    return json.loads((folder / "report.json").read_text())


def pruned(run, hidden=(16,)):
    """Parameters and masks of the pruned network."""
    params = models.build("mlp", 10, hidden=hidden).init(jax.random.key(1), jnp.zeros((1, 64)))[0]
    masks = {
        name: {"kernel": np.ones(leaf["kernel"].shape, np.uint8), "bias": None}
        for name, leaf in params.items()
    }
    found = checkpoint.restore(run / "pruned", {"variables": Variables(params, {}), "masks": masks})
    return found["variables"].params, found["masks"]


def assert_same(one, other, hidden=(16,)):
    """Two runs' folders: all counts, predictions, masks, and parameters but for rounding."""
    assert counts(read(one)) == counts(read(other))
    with np.load(one / "predictions.npz") as found, np.load(other / "predictions.npz") as expected:
        assert sorted(found) == sorted(expected)
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
    (params, masks), (others, other_masks) = pruned(one, hidden), pruned(other, hidden)
    jax.tree.map(np.testing.assert_array_equal, masks, other_masks)
    close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=1e-4)  # noqa: E731
    jax.tree.map(close, params, others)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A workdir of one process with one device."""
    folder = tmp_path_factory.mktemp("alone") / "w"
    codes, texts = finish([start(*TINY, f"--workdir={folder}")])
    assert codes == [0], texts
    return folder


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_the_first_writes(alone, tmp_path):
    workdirs = tmp_path / "first", tmp_path / "second"
    codes, texts = together(*TINY, workdirs=workdirs)
    assert codes == [0, 0], texts
    assert_same(alone / "ceag-seed0", workdirs[0] / "ceag-seed0")
    assert not workdirs[1].exists()
    assert "Excess:" in texts[0][0] and "Excess:" not in texts[1][0]
    there = {path.name for path in workdirs[0].iterdir()}
    assert there == {path.name for path in alone.iterdir()}
    lines = [(folder / "metrics.jsonl").read_text().count("\n") for folder in (alone, workdirs[0])]
    assert lines[0] == lines[1]

    # Once more: the dense model comes from the first one's disk, and steps are started by the host.
    codes, texts = together(*TINY, "--config.seed=1", "--epoch=loop", workdirs=workdirs)
    assert codes == [0, 0], texts
    codes, texts = finish([start(*TINY, "--config.seed=1", f"--workdir={alone}")])
    assert codes == [0], texts
    assert_same(alone / "ceag-seed1", workdirs[0] / "ceag-seed1")
    assert not workdirs[1].exists()


@pytest.mark.slow
def test_two_processes_sweep_together(alone, tmp_path):
    workdirs = tmp_path / "first", tmp_path / "second"
    own = "--sweep=seed=0,7", "--config.selection=average"
    codes, texts = together(*TINY, *own, "--jobs=2", workdirs=workdirs, module="sweep")
    assert codes == [1, 1]
    assert all("2 processes run the sweep together; leave out --jobs" in err for _, err in texts)
    for _ in range(2):  # the second time nothing is left
        codes, texts = together(*TINY, *own, workdirs=workdirs, module="sweep")
        assert codes == [0, 0], texts
        rows = json.loads((workdirs[0] / "sweep.json").read_text())["rows"]
        assert [row["config"] for row in rows] == [{"seed": 0}, {"seed": 7}]
        average, last = rows[0]["report"], read(alone / "ceag-seed0")["last"]
        assert average["epochs_averaged"] == 1
        assert average["splits"] == average["last"]["splits"] == last["splits"]
    assert "members in" not in texts[0][1] and not workdirs[1].exists()


@pytest.mark.slow
def test_a_mistake_that_only_the_first_can_see_ends_all(tmp_path):
    (tmp_path / "sweep.json").write_text("[]")
    codes, texts = together(*TINY, workdirs=(tmp_path, tmp_path / "second"))
    assert codes == [1, 1]
    assert all("holds a sweep" in err for _, err in texts)
    assert not any("Traceback" in err for _, err in texts)


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_one_that_fails_ends_the_others(tmp_path, which):
    own = [(), ()]
    own[which] = ("--config.data.name=nowhere",)
    codes, texts = together(*TINY, workdirs=(tmp_path / "w",) * 2, own=own)
    assert codes[which] and codes[1 - which]
    assert "unknown data set 'nowhere'" in texts[which][1]


@pytest.mark.slow
def test_eight_devices_give_what_one_gives(tmp_path):
    for devices in (1, 8):
        experiment.run_experiment(tiny(), tmp_path / str(devices), Execution(devices=devices))
    one, eight = (read(tmp_path / name / "ceag-seed0") for name in ("1", "8"))
    assert counts(one) == counts(eight)


@pytest.mark.slow
def test_eight_devices_on_the_whole_digits(tmp_path):
    """From one dense model: in the 100 epochs of its own training rounding grows to 5e-4."""
    one, eight = tmp_path / "1", tmp_path / "8"
    for devices, folder in ((1, one), (8, eight)):
        flags = f"--devices={devices}", f"--workdir={folder}"
        codes, texts = finish([start(*flags, devices=8)], seconds=900)
        assert codes == [0], texts
        if devices == 1:
            shutil.copytree(one / "dense", eight / "dense")
            shutil.copyfile(one / "config.json", eight / "config.json")
    assert_same(one / "ceag-seed0", eight / "ceag-seed0", hidden=(256, 256))


def test_what_only_the_first_process_does(monkeypatch):
    """With one process the work is simply done; with two, the other learns how it ended."""
    seen = []
    sharding.by_first_process(lambda: seen.append(1))
    assert seen == [1]
    sent = {}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(sharding, "from_first_process", lambda tree: sent.setdefault("it", tree))

    def fails():
        raise UserError("a § b: c")

    with pytest.raises(UserError, match="^a § b: c$"):
        sharding.by_first_process(fails)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(UserError, match="^a § b: c$"):
        sharding.by_first_process(lambda: seen.append(2))
    sent.clear()
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    with pytest.raises(ZeroDivisionError):
        sharding.by_first_process(lambda: 1 / 0)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with pytest.raises(RuntimeError, match="ZeroDivisionError: division by zero"):
        sharding.by_first_process(lambda: seen.append(2))
    assert seen == [1]
