"""Every example and every command of a user's own data in the README runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from bap_jax.data.images import encode_jpeg

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COUNT = 120
QUICK = "--config.dense.epochs=1 --config.pruning.epochs=1 --config.finetune_epochs=1 "
QUICK += "--config.batch_size=32 --config.data.validation_fraction=0.2"


def readme_examples():
    """Python blocks of the README."""
    return re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def test_readme_has_its_examples():
    assert len(readme_examples()) == 5


@pytest.mark.parametrize("which", [0, 1], ids=["nnx", "linen"])
def test_readme_example(which, capsys):
    code = readme_examples()[which]
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    exec(compile(code, "README.md", "exec"), {})
    assert "test" in capsys.readouterr().out


def test_readme_library_example(capsys):
    code = readme_examples()[3]
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    exec(compile(code, "README.md", "exec"), {})
    missed = re.search(r"missed cancers ([\d.]+)", capsys.readouterr().out).group(1)
    assert float(missed) <= 0.01 and f"prints {missed};" in README.read_text()


def test_readme_pruning_example(capsys):
    code = readme_examples()[4]
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    exec(compile(code, "README.md", "exec"), {})
    out, text = capsys.readouterr().out, README.read_text()
    shares = [float(number) for number in re.findall(r"0\.\d+", out)[:3]]
    assert (
        "prints {:.1%} and {:.1%} zeros, {:.1%} in all".format(*shares).replace("%", " %") in text
    )


class Net(nnx.Module):
    """Of images of any size, in colours."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(4, 8, rngs=rngs)
        self.out = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(nnx.relu(self.conv(x)).mean((1, 2)))))


@pytest.fixture
def folder(tmp_path):
    """Images with a table, as a user has them."""
    rows = ["path,label,race,gender"]
    for i in range(COUNT):
        pixels = np.full((12, 12, 3), 20 + i, np.uint8)
        (tmp_path / f"{i}.jpg").write_bytes(encode_jpeg(pixels))
        rows.append(f"{i}.jpg,{i % 2},{'ab'[i // 2 % 2]},{'mf'[i // 4 % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_readme_example_of_a_folder(folder, tmp_path):
    code = readme_examples()[2].replace("FOLDER", str(folder)).replace("range(1000)", "range(30)")
    code = code.replace('"cache"', repr(str(tmp_path / "cache")))
    names = {"network": Net(nnx.Rngs(0))}
    exec(compile(code, "README.md", "exec"), names)
    assert names["result"].data["splits"]["test"] == 30
    assert len(names["result"].report["splits"]["test"]["groups"]) == 4


def command_of(name):
    """The README's command for the data set called `name`."""
    blocks = re.findall(r"(?:^    .*\n)+", README.read_text(), flags=re.MULTILINE)
    (found,) = [block for block in blocks if f"--config.data.name={name} " in block]
    return found.replace("\\\n", " ")


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["images", "npz"])
def test_readme_commands_for_a_users_own_data(name, folder, tmp_path):
    i = np.arange(COUNT)
    inputs = np.random.default_rng(0).normal(size=(COUNT, 6)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", inputs=inputs, label=i % 2, race=i // 2 % 2)
    text = command_of(name).replace("FOLDER", str(folder))
    text = text.replace("FILE.npz", str(tmp_path / "mine.npz")).replace(
        "runs/", f"{tmp_path}/runs/"
    )
    command = shlex.split(text.replace(".venv/bin/python", sys.executable) + QUICK)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Groups     2" in done.stdout and "SELECTED on validation" in done.stdout
