"""Methods as users write them: copies of `floor`."""

from bap_jax import constraints, training


def floor_constraint(reference, settings):
    """The constraint alone."""
    options = settings.constraint
    return constraints.worst_group_floor(
        reference, settings.tolerance, buffer_size=options.buffer_size
    )


def floor_method(reference, settings):
    """The whole method."""
    return training.Method(
        floor_constraint(reference, settings),
        training.formulation_from_settings(settings),
        is_constrained=True,
        name="my_floor",
    )


def single_constraint(reference, settings):
    """One constraint for all groups together: the worst of them."""
    floor = floor_constraint(reference, settings)

    def evaluate(state, observations):
        values, state = floor.evaluate(state, observations)
        worst = values._replace(
            violation=values.violation.max(keepdims=True),
            proxy=values.proxy.max(keepdims=True),
            violation_mask=values.violation_mask.all(keepdims=True),
            proxy_mask=values.proxy_mask.all(keepdims=True),
        )
        return worst, state

    return constraints.Constraint(1, floor.init, evaluate, lambda group_names: ["the worst"])


def two_sets(reference, settings):
    """Two named sets of constraints."""
    gap = constraints.excess_accuracy_gap(reference, settings.tolerance, buffer_size=2)
    return constraints.combine({"floor": floor_constraint(reference, settings), "gap": gap})


def no_method(reference, settings):
    """Forgets to return anything."""


def untraceable(reference, settings):
    """Asks for the value of a setting that may be traced."""
    return floor_constraint(reference, settings) if float(settings.tolerance) else None


nothing = 3
