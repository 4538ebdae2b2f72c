"""Stub until the words of an audit are there."""


def sentence(audit) -> str:
    from bap_jax.audit.numbers import interval, points, tolerance

    worst = audit.groups[0]
    return (
        f"{audit.verdict.capitalize()} at ε = {tolerance(audit.tolerance)} on {audit.overall.n} "
        f"test samples: group {audit.deciding_group} lost between "
        f"{interval(worst.lower, worst.upper)} points more than the whole. Certifiable: "
        f"{points(audit.certifiable_tolerance)} points. A decision needs about "
        f"{audit.samples_needed} samples a group."
    )
