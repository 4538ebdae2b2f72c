"""python -m bap_jax.main --config=experiments/digits.py --workdir=runs/digits

Prunes and tunes one network with one method. Every key of the config can be set on the command
line: --config.method=nft --config.seed=1 --config.pruning.sparsity=0.98
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from bap_jax import data, experiment, flags, profiling, reporting, sharding
from bap_jax.audit.output import print_text
from bap_jax.config import to_plain, to_settings
from bap_jax.errors import UserError
from bap_jax.training import DivergedError
from bap_jax.training.dual_rules import check_is_read

absl_flags.adopt_module_key_flags(flags)  # --help lists these flags, too
_VERBOSE = absl_flags.DEFINE_bool(
    "verbose", False, "print all groups, and how the run was executed"
)
_PROFILE = absl_flags.DEFINE_bool(
    "profile", False, "before the run, time the steps and trace ten of them"
)


def main(argv: list[str]) -> None:
    """Runs the experiment that the flags describe."""
    flags.check_no_arguments(argv)
    warnings: list[str] = []
    try:
        flags.start()
        config = flags.config()
        settings = to_settings(to_plain(config))
        for key in flags.keys_set():
            check_is_read(key, settings)
        report = experiment.run_experiment(
            config,
            flags.workdir(),
            flags.execution(),
            before=profiling.print_profile if _PROFILE.value else None,
            on_data=_print_data,
            on_warning=warnings.append,
        )
    except (UserError, DivergedError) as error:
        sys.exit(f"error: {error}")
    if not sharding.is_first_process():
        return
    print_text(reporting.format_report(report, verbose=_VERBOSE.value), sys.stdout)
    print()
    for what, name in (
        ("page", "report.html"),
        ("report", "report.json"),
        ("metrics", "metrics.jsonl"),
        ("figure", "disparity.png"),
    ):
        path = Path(flags.workdir()) / name
        if path.exists():
            print(f"{what:8}{path}")
    for text in warnings:
        print_text(f"warning: {text}", sys.stderr)


def _print_data(summary: dict[str, Any]) -> None:
    if sharding.is_first_process():
        print_text(data.format_summary(summary), sys.stdout)
        print()


if __name__ == "__main__":
    flags.run_main(main)
