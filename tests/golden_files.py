"""Numbers of other implementations: found in the files, never listed."""

import json
import os
from pathlib import Path

import numpy as np

DEFAULT_FOLDER = Path(__file__).parent / "golden"
FOLDER = Path(os.environ.get("BAP_GOLDEN", DEFAULT_FOLDER))
ARRAYS = dict(np.load(FOLDER / "reference.npz", allow_pickle=False))
SETTINGS = json.loads((FOLDER / "reference.json").read_text())


def cases(prefix: str, holding: str) -> list[str]:
    """Names below `prefix` whose folder holds the array `holding`, sorted."""
    suffix = f"/{holding}"
    return sorted(
        key[len(prefix) : -len(suffix)]
        for key in ARRAYS
        if key.startswith(prefix) and key.endswith(suffix)
    )


def case(name: str) -> dict[str, np.ndarray]:
    """All arrays below `name/`, by the rest of their names."""
    return {
        key[len(name) + 1 :]: value for key, value in ARRAYS.items() if key.startswith(f"{name}/")
    }


def jaxpruner() -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and manifest of jaxpruner's file; both empty where the folder has none."""
    path = FOLDER / "jaxpruner.npz"
    if not path.exists():
        return {}, {}
    arrays = dict(np.load(path, allow_pickle=False))
    return arrays, json.loads(str(arrays.pop("manifest", "{}")))
