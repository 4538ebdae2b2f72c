"""From a listing to a source: prepared, decoded, with what was left out along the way."""

import errno
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bap_jax.data import builders, image_cache, synthetic
from bap_jax.data.listing import Listing, digest_of
from bap_jax.data.locking import locked
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.types import UserError

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
# Of the training images (Krizhevsky 2009).
_CIFAR_SCALE = PixelScale(
    (0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)
)


def load_utkface(request: Request) -> Source:
    """UTKFace; labels are genders, unless another attribute is asked for."""
    return _load(request, "utkface", builders.list_utkface, "gender")


def load_fairface(request: Request) -> Source:
    """FairFace; labels are races, unless another attribute is asked for."""
    return _load(request, "fairface", builders.list_fairface, "race")


def load_celeba(request: Request) -> Source:
    """CelebA; labels tell who has blond hair, unless another attribute is asked for."""
    return _load(request, "celeba", builders.list_celeba, "Blond_Hair")


def load_cifar100(request: Request) -> Source:
    """CIFAR-100; labels are the fine classes, unless the coarse ones are asked for."""
    return _load(request, "cifar100", builders.list_cifar100, "fine", _CIFAR_SCALE)


def source_of(
    listing: Listing,
    request: Request,
    target: str,
    scale: PixelScale = IMAGENET_SCALE,
    builder: str = "",
) -> Source:
    """The samples of a listing whose images can be read.

    Args:
      listing: of the user's files.
      request: sizes and cache.
      target: attribute that networks learn by default.
      scale: of pixels.
      builder: name of the tensorflow-datasets builder that prepares the files; by default they are
        read as they lie.

    Raises:
      UserError: no image can be read, or they differ in size and none was asked for; or whatever
        `request.check` raises.
    """
    listed = Source(
        np.empty((len(listing.names), 0), np.uint8),
        listing.attributes,
        target,
        listing.indices("test"),
        listing.indices("validation"),
        scale,
        listing.skipped,
    )
    if request.check is not None:
        request.check(listed)
    found = _decoded(listing, request, builder)
    if len(found.kept) < len(listing.names):
        listed = listed.take(found.kept)
    return listed._replace(
        inputs=found.records,
        skipped=(*listing.skipped, *found.skipped),
        converted=found.converted,
        digests=found.digests,
        identity=f"{listing.digest(files=False)}-{digest_of(found.digests)}",
        test_indices=_among(listing.indices("test"), found.kept),
        validation_indices=_among(listing.indices("validation"), found.kept),
    )


def _load(request, name, list_files: Callable[[str], Listing], target, scale=IMAGENET_SCALE):
    root = str(synthetic.folder(name, request)) if request.synthetic else request.dir
    return source_of(list_files(root), request, target, scale, name)


def _decoded(listing, request, builder):
    if request.cache is None:
        return image_cache.decoded(listing.read, listing.names, request.size, None)
    whole = Path(request.cache) / f"{builder or 'images'}-{listing.digest()}"
    folder = whole / (str(request.size) if request.size else "as_stored")
    try:
        found = image_cache.opened(folder, len(listing.names))
        return found or _decoded_anew(listing, request, builder, whole, folder)
    except OSError as error:
        ours = str(error.filename or "").startswith(str(request.cache))
        if error.errno not in _NOT_WRITABLE or not ours:
            raise
        raise UserError(
            f"the folder of decoded images cannot be written: {error}. Name another one by "
            "--data_cache=DIR."
        ) from error


def _decoded_anew(listing, request, builder, whole, folder):
    shape = image_cache.image_shape(listing.read, listing.names, request.size)
    need = len(listing.names) * math.prod(shape) + int(np.sum(listing.sizes))
    if not image_cache.has_room(whole, need):
        return image_cache.decoded(listing.read, listing.names, request.size, None)
    read = _Prepared(lambda: _prepare(builder, listing, whole)) if builder else listing.read
    with locked(whole):
        return image_cache.decoded(read, listing.names, request.size, folder)


def _prepare(builder, listing, folder):
    from bap_jax.data.builders.tfds import prepared

    return prepared(builder, listing, folder)


class _Prepared:
    """Reads from files that are prepared when the first image is asked for, by any thread."""

    def __init__(self, prepare):
        self._prepare = prepare
        self._read = None
        self._lock = threading.Lock()

    def __call__(self, row):
        with self._lock:
            self._read = self._read or self._prepare()
        return self._read(row)


def _among(indices, kept):
    """Where `indices` are among the ascending `kept`; None for None."""
    if indices is None:
        return None
    return np.flatnonzero(np.isin(kept, indices))
