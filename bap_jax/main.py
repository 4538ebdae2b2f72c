"""python -m bap_jax.main --config=experiments/digits.py --workdir=runs/digits

Prunes and tunes one network by one method. Anything in the config can be set on the command line:
--config.method=nft --config.seed=1 --config.pruning.sparsity=0.98
"""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from bap_jax import audit, experiment
from bap_jax.config import check_flags
from bap_jax.training import DivergedError
from bap_jax.types import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "experiment file", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the experiment; made where missing")


def main(argv: list[str]) -> None:
    """Runs the experiment of the flags."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; write --config.NAME=VALUE")
    try:
        report = experiment.run(_CONFIG.value, _WORKDIR.value)
    except (UserError, DivergedError) as error:
        sys.exit(f"error: {error}")
    print(audit.format_report(report))
    print()
    for what, name in (
        ("report", "report.json"),
        ("metrics", "metrics.jsonl"),
        ("figure", "disparity.png"),
    ):
        print(f"{what:8}{Path(_WORKDIR.value) / name}")


def _parse(argv):
    try:
        check_flags(argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    rest = app.parse_flags_with_usage(argv)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    return rest


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=_parse)
