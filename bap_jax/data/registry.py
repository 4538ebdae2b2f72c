"""Data sets by name: find one, load it, add your own."""

from bap_jax._user_code import import_object
from bap_jax.data.datasets import DATASETS
from bap_jax.data.image_sets import load_listed
from bap_jax.data.request import Request
from bap_jax.data.source import Source
from bap_jax.data.spec import DatasetSpec
from bap_jax.data.synthetic import make_folder
from bap_jax.data.user_data import source_from
from bap_jax.errors import UserError

_SHIPPED = frozenset(DATASETS)


def register_dataset(spec: DatasetSpec) -> None:
    """Makes a data set known, so that `config.data.name` and `data.load` take its name.

    Call it in your experiment file, which every process of a run or sweep executes, or in a module
    that this file imports. Registering another spec under the same name replaces the first one.

    Args:
      spec: the data set.

    Raises:
      UserError: the name is that of a data set that the library ships, or it contains a colon,
        which marks `module:function`.

    Example:
      >>> import numpy as np
      >>> from bap_jax import data, groups
      >>> def load_coins(request):
      ...     side = groups.encode(["heads", "tails", "heads"])
      ...     return data.Source(np.ones((3, 4)), {"side": side}, target="side")
      >>> data.register_dataset(data.DatasetSpec("coins", load=load_coins))
      >>> data.load("coins").labelled()
      (array([0, 1, 0], dtype=int32), ('heads', 'tails'))
      >>> del data.DATASETS["coins"]  # forgets it again
    """
    if not isinstance(spec, DatasetSpec):
        raise UserError(f"expected a DatasetSpec; got {spec!r}. Write data.DatasetSpec(name, ...).")
    if spec.name in _SHIPPED:
        raise UserError(f"the library ships a data set {spec.name!r}; choose another name.")
    if ":" in spec.name:
        raise UserError(
            f"data set name {spec.name!r} contains a colon, which stands for 'module:function'; "
            "choose another name."
        )
    DATASETS[spec.name] = spec


def find_dataset(name: str) -> DatasetSpec:
    """The data set called `name`.

    Args:
      name: a key of `DATASETS`, or `module:function`; see `load`.

    Raises:
      UserError: the name is unknown (the message lists the known ones), or there is no such module
        or function.
    """
    if ":" in name:
        return _from_module(name)
    if name not in DATASETS:
        raise UserError(
            f"unknown data set {name!r}; known data sets: {', '.join(DATASETS)}; or write "
            "'module:function' for your own."
        )
    return DATASETS[name]


def load(name: str, request: Request | None = None) -> Source:
    """Loads a data set.

    Args:
      name: a key of `DATASETS`; or `module:function`, a function without arguments that returns a
        `Source` or an object for `source_from`; or `module:spec`, a `DatasetSpec`.
      request: where the data are and how images should be prepared.

    Raises:
      UserError: the name is unknown (the message lists the known ones), the data set does not take
        what the request asks for, or something is wrong with the data.

    Example:
      >>> source = load("digits")
      >>> source.inputs.shape, sorted(source.attributes)
      ((1797, 8, 8), ['digit', 'ink'])
    """
    request = request or Request()
    spec = find_dataset(name)
    _check_request(spec, request)
    if spec.load is None:
        return load_listed(spec, request)
    if request.synthetic:
        request = request._replace(dir=str(make_folder(spec, request)))
    return spec.load(request)


def _check_request(spec, request):
    if request.synthetic and spec.made_up is None:
        raise UserError(
            f"data set {spec.name!r} has no synthetic form; write config.data.synthetic=0."
        )
    if request.size and not spec.takes_size:
        raise UserError(
            f"the inputs of data set {spec.name!r} are not resized; write config.data.size=0."
        )
    if request.dir and not spec.takes_dir:
        raise UserError(
            f"data set {spec.name!r} reads no files of yours; leave --data_dir out, or choose the "
            "data set by config.data.name."
        )


def _from_module(name):
    """The spec of `module:function` or `module:spec`."""
    target = import_object(name, "data set")
    if isinstance(target, DatasetSpec):
        return target

    def load_from_function(request):
        samples = target()
        return samples if isinstance(samples, Source) else source_from(samples, request)

    return DatasetSpec(name, load=load_from_function, takes_dir=False, takes_size=False)
