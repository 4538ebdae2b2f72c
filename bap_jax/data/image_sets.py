"""From a listing to a source: images prepared, decoded and cached, unreadable ones left out."""

import errno
import math
import threading
from pathlib import Path

import numpy as np

from bap_jax._user_code import import_object
from bap_jax.data import image_cache, synthetic
from bap_jax.data.listing import Listing, ReadImage, digest_of
from bap_jax.data.locking import locked
from bap_jax.data.request import Request
from bap_jax.data.source import IMAGENET_SCALE, PixelScale, Source
from bap_jax.data.spec import DatasetSpec
from bap_jax.errors import UserError

_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def load_listed(spec: DatasetSpec, request: Request) -> Source:
    """Loads a data set that has `list_files`, from the user's files or made-up ones.

    Raises:
      UserError: see `source_from_listing`, or files are missing.
    """
    assert spec.list_files is not None
    folder = str(synthetic.make_folder(spec, request)) if request.synthetic else request.dir
    return source_from_listing(
        spec.list_files(folder),
        request,
        target=spec.target,
        scale=spec.scale,
        name=spec.name,
        builder=spec.builder,
    )


def source_from_listing(
    listing: Listing,
    request: Request,
    *,
    target: str,
    scale: PixelScale = IMAGENET_SCALE,
    name: str = "images",
    builder: str = "",
) -> Source:
    """The samples of a listing whose images can be read.

    Args:
      listing: the user's files.
      request: size of images, and cache.
      target: the attribute that networks learn by default.
      scale: of pixels.
      name: of the data set; names its folder in the cache.
      builder: see `DatasetSpec`.

    Raises:
      UserError: no image can be read, or images differ in size and no size was asked for; or
        `request.check` finds a mistake.
    """
    listed = Source(
        np.empty((len(listing.names), 0), np.uint8),
        listing.attributes,
        target,
        listing.indices("test"),
        listing.indices("validation"),
        scale,
        listing.skipped,
        missing=listing.missing,
    )
    if request.check is not None:
        request.check(listed)
    images = _decode(listing, request, name, builder)
    readable = listed
    if len(images.kept) < len(listing.names):
        readable = listed.take(images.kept)
    return readable._replace(
        inputs=images.records,
        skipped=(*listing.skipped, *images.skipped),
        converted=images.converted,
        digests=images.digests,
        identity=f"{listing.digest(files=False)}-{digest_of(images.digests)}",
        test_indices=_renumber(listed.test_indices, images.kept),
        validation_indices=_renumber(listed.validation_indices, images.kept),
    )


def _decode(listing, request, name, builder):
    """The images of a listing: from the cache, into it, or without one."""
    if request.cache is None:
        return image_cache.decode_images(listing.read, listing.names, request.size, None)
    whole = Path(request.cache) / f"{name}-{listing.digest()}"
    folder = whole / (str(request.size) if request.size else "as_stored")
    try:
        cached = image_cache.open_cache(folder, len(listing.names))
        return cached or _fill_cache(listing, request.size, builder, whole, folder)
    except OSError as error:
        in_cache = str(error.filename or "").startswith(str(request.cache))
        if error.errno not in _NOT_WRITABLE or not in_cache:
            raise
        raise UserError(
            f"the folder of decoded images cannot be written: {error}. Name another one by "
            "--data_cache=DIR."
        ) from error


def _fill_cache(listing, size, builder, whole, folder):
    """Prepares and decodes all images, unless the disk is too full to keep them.

    Args:
      whole: folder for the data set at every size.
      folder: its part for this size.
    """
    shape = image_cache.image_shape(listing.read, listing.names, size)
    nbytes = len(listing.names) * math.prod(shape) + int(np.sum(listing.sizes))
    if not image_cache.has_room(whole, nbytes):
        return image_cache.decode_images(listing.read, listing.names, size, None)
    read = _PreparedOnDemand(builder, listing, whole) if builder else listing.read
    with locked(whole):
        return image_cache.decode_images(read, listing.names, size, folder)


class _PreparedOnDemand:
    """Reads prepared images; the first one that any thread asks for prepares them all."""

    def __init__(self, builder: str, listing: Listing, folder: Path):
        self._arguments = builder, listing, folder
        self._read: ReadImage | None = None
        self._lock = threading.Lock()

    def __call__(self, sample: int, /) -> bytes | str | np.ndarray:
        with self._lock:
            self._read = self._read or _prepare(*self._arguments)
        return self._read(sample)


def _prepare(builder, listing, folder):
    from bap_jax.data.builders.tfds import prepare

    return prepare(import_object(builder, "builder"), listing, folder)


def _renumber(indices, kept):
    """Positions of `indices` in the ascending `kept`; None for None."""
    if indices is None:
        return None
    return np.flatnonzero(np.isin(kept, indices))
