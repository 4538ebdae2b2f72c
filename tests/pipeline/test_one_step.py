"""How many files one reads from the command to the multipliers."""

import importlib
import traceback
from pathlib import Path

import bap_jax
from bap_jax import experiment
from bap_jax.config import default_config

ROOT = Path(bap_jax.__file__).parent
WALK = [  # after main.py, as docs/architecture.md describes it
    "experiment.py",
    "pipeline/tuner.py",
    "training/loop.py",
    "training/step.py",
    "lagrangian/dual_primal.py",
    "lagrangian/steps.py",
    "lagrangian/auto.py",
]


def test_eight_files_lead_from_main_to_the_multipliers(tmp_path, monkeypatch):
    auto, walks = importlib.import_module("bap_jax.lagrangian.auto"), []
    length, update = auto.step_length, auto.step_length.update

    def noting(*args):
        files = [Path(frame.filename) for frame in traceback.extract_stack()]
        ours = [str(path.relative_to(ROOT)) for path in files if ROOT in path.parents]
        walks.append(list(dict.fromkeys(ours)))
        return update(*args)

    monkeypatch.setattr(length, "update", noting)
    config = default_config()
    config.model.hidden = (4,)
    config.dense.epochs = config.pruning.epochs = config.finetune_epochs = 1
    experiment.run_experiment(config, tmp_path / "w")
    assert WALK in walks and len(WALK) + 1 <= 8
