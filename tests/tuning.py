"""A whole run of the pipeline in one call."""

from bap_jax import pipeline


def prune_and_tune(model, variables, splits, settings, log=lambda row: None, execution=None):
    """Prunes a trained network and tunes it under the method of `settings`."""
    context = pipeline.make_context(model, variables, splits, execution)
    return pipeline.tune_one(pipeline.make_tuner(context, settings), settings, log=log)
