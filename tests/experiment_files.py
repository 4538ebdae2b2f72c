"""The files in experiments/ and their settings."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))
NAMES = [path.stem for path in EXPERIMENTS]
SETTINGS = ("", "cpu", "smoke")


def config_of(name: str, setting: str = ""):
    """The config of `experiments/NAME.py:SETTING`."""
    return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["get_config"](setting)
