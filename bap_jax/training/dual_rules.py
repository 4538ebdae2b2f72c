"""Which rule of the multipliers reads which setting of `dual`.

A setting that is not read has no effect: a sweep over it would train equal members, and whoever
wrote it expects another run than the one that comes.
"""

from bap_jax.errors import UserError
from bap_jax.training.methods import find_method
from bap_jax.training.settings import Settings

DUAL_RULES = ("auto", "ascent", "nu_pi", "augmented")
_READ_BY = {
    "learning_rate": ("ascent", "nu_pi"),
    **dict.fromkeys(("momentum", "dampening", "optimizer"), ("ascent",)),
    **dict.fromkeys(("nu", "proportional", "integral"), ("nu_pi",)),
    **dict.fromkeys(("penalty", "penalty_growth", "largest_penalty"), ("augmented",)),
    **dict.fromkeys(("restart", "restart_confidence"), ("ascent", "nu_pi")),
    "start": ("ascent", "nu_pi", "augmented"),
}


def rules_that_read(name: str) -> tuple[str, ...]:
    """The rules that read `dual.NAME`.

    Example:
      >>> rules_that_read("nu")
      ('nu_pi',)
    """
    return _READ_BY.get(name, DUAL_RULES)


def check_is_read(key: str, settings: Settings) -> None:
    """Raises an error if a run with these settings does not read a setting of the multipliers.

    Args:
      key: dotted key of the config; only those of `dual` are checked.
      settings: of the run. Only methods that say that they follow the rule are checked: others have
        no multipliers, read settings of their own (as group DRO's adversary), or are users'.

    Raises:
      UserError: the rule does not read it; the message says which one does.
    """
    section, _, name = key.partition(".")
    rule, readers = settings.dual.rule, rules_that_read(name)
    if section != "dual" or rule in readers or not find_method(settings.method).follows_rule:
        return
    raise UserError(
        f"{key} has no effect: the multipliers move by dual.rule={rule!r}, which does not read it. "
        f"Add --config.dual.rule={readers[0]}, or leave {key} out."
    )
