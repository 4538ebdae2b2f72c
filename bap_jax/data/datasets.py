"""The data sets that the library ships, one `DatasetSpec` each.

To use your own, pass a spec to `register_dataset`. To ship another one, add it to this list.
"""

from bap_jax.data import synthetic
from bap_jax.data.builders.celeba import list_celeba
from bap_jax.data.builders.cifar100 import list_cifar100
from bap_jax.data.builders.fairface import list_fairface
from bap_jax.data.builders.utkface import list_utkface
from bap_jax.data.census import load_census
from bap_jax.data.digits import load_digits
from bap_jax.data.source import PixelScale
from bap_jax.data.spec import DatasetSpec, MadeUpImages
from bap_jax.data.synthetic_people import write_census
from bap_jax.data.user_data import load_arrays, load_images

_BUILDERS = "bap_jax.data.builders.tfds"
# Mean and standard deviation of the training images (Krizhevsky 2009).
_CIFAR_SCALE = PixelScale(
    (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
)

_SHIPPED = (
    DatasetSpec(
        name="digits",
        load=load_digits,
        group_by="digit",
        takes_dir=False,
        takes_size=False,
        experiment="experiments/digits.py",
    ),
    DatasetSpec(
        name="utkface",
        list_files=list_utkface,
        target="gender",
        group_by="race",
        builder=f"{_BUILDERS}:Utkface",
        made_up=MadeUpImages(synthetic.write_utkface),
        experiment="experiments/utkface.py",
    ),
    DatasetSpec(
        name="fairface",
        list_files=list_fairface,
        target="race",
        group_by="race",
        builder=f"{_BUILDERS}:Fairface",
        made_up=MadeUpImages(synthetic.write_fairface),
        experiment="experiments/fairface.py",
    ),
    DatasetSpec(
        name="celeba",
        list_files=list_celeba,
        target="Blond_Hair",
        group_by="Blond_Hair*Male",
        builder=f"{_BUILDERS}:Celeba",
        made_up=MadeUpImages(synthetic.write_celeba),
        experiment="experiments/celeba.py",
    ),
    DatasetSpec(
        name="cifar100",
        list_files=list_cifar100,
        target="fine",
        group_by="fine",
        scale=_CIFAR_SCALE,
        builder=f"{_BUILDERS}:Cifar100Binary",
        made_up=MadeUpImages(synthetic.write_cifar100, least=600),
        experiment="experiments/cifar100.py",
    ),
    DatasetSpec(
        name="census",
        load=load_census,
        group_by="sex*race",
        takes_size=False,
        made_up=MadeUpImages(write_census, least=400),
        experiment="experiments/census.py",
    ),
    DatasetSpec(name="npz", load=load_arrays, takes_size=False),
    DatasetSpec(name="images", load=load_images),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SHIPPED}
