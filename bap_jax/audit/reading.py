"""From the command's flags to samples: which reader reads what.

Readers are imported when they are needed, as pyarrow, which only tables need, takes its time.
"""

import argparse

from bap_jax.audit.arguments import LANGUAGE_MODELS, NO_TOLERANCE, RUN
from bap_jax.audit.samples import Samples
from bap_jax.errors import UserError


def read(flags: argparse.Namespace) -> tuple[Samples, float]:
    """The samples, and the tolerance.

    Args:
      flags: from `arguments.parse`.

    Raises:
      UserError: something in the files is wrong, or there is no tolerance.
    """
    if flags.kind == RUN:
        return _read_run(flags)
    if flags.kind == LANGUAGE_MODELS:
        return _read_language_models(flags), flags.tolerance
    return _read_tables(flags), flags.tolerance


def _read_run(flags):
    from bap_jax.audit.run_folder import read_run

    run = read_run(flags.run, flags.split or "test")
    tolerance = run.tolerance if flags.tolerance is None else flags.tolerance
    if tolerance is None:
        raise UserError(NO_TOLERANCE)
    return run.samples, tolerance


def _read_tables(flags):
    from bap_jax.audit.columns import Wanted
    from bap_jax.audit.joining import read_two_tables
    from bap_jax.audit.predictions import read_predictions

    wanted = Wanted(**{name: getattr(flags, name) for name in Wanted._fields})
    if len(flags.files) == 2:
        return read_two_tables(flags.files[0], flags.files[1], wanted)
    return read_predictions(flags.files[0], wanted)


def _read_language_models(flags):
    from bap_jax.audit.language_models import read_language_models

    if len(flags.files) != 2:
        raise UserError(
            f"{flags.files[0]} is read as samples of one language model; name two, first the "
            "original model, then the compressed one. A finished run of bap_jax is audited by "
            f"--run={flags.files[0]}"
        )
    for path, other in (flags.files, flags.files[::-1]):
        if other.is_file() and other.suffix != ".jsonl":
            raise UserError(
                f"{path} is read as samples of a language model, and {other} is no such file; name "
                "two tables, or two folders or files of samples_*.jsonl."
            )
    return read_language_models(
        *flags.files,
        metric=flags.metric,
        filter_name=flags.filter,
        group_by=flags.group_by or "+".join(flags.groups),
    )
