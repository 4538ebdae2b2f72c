"""JPEG and PNG files as arrays: decoded to RGB, cut to a square and resized."""

import errno
import io
import os
from typing import NamedTuple

import numpy as np

from bap_jax.errors import UserError


class Decoded(NamedTuple):
    """An image that was read.

    Attributes:
      pixels: `(height, width, 3)` uint8.
      mode: Pillow's name for how it was stored: RGB, L (grey), CMYK, …; and whether it was
        transparent.
    """

    pixels: np.ndarray
    mode: str


def decode(file: bytes | str | os.PathLike, name: str, size: int = 0) -> Decoded:
    """Reads a JPEG or PNG file.

    What is transparent is seen on white, as most programs show it. Its stored colour, often black
    or left over, is never shown.

    Args:
      file: its content, or its path.
      name: what errors call it.
      size: width and height in pixels, to which the largest square in the middle is resized; 0
        keeps the image as stored.

    Raises:
      UserError: the file is missing, truncated or not an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            mode = image.mode
            if mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits a channel (mode {mode}); save it with 8")
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                mode, image = f"{mode}, transparent", _on_white(image)
            image = image.convert("RGB")
            if size:
                image = _square(image, size, Image.Resampling.BILINEAR)
            return Decoded(np.asarray(image), mode)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises almost anything on a damaged file
        if getattr(error, "errno", None) not in (None, errno.ENOENT):
            raise  # a fault of the disk or the system, not of the image
        reason = "it is not an image" if isinstance(error, UnidentifiedImageError) else error
        raise UserError(f"{name} cannot be read: {reason}. Restore it or leave it out.") from error


def encode_thumbnail(pixels: np.ndarray, smallest: int, largest: int) -> bytes:
    """An image of moderate size as the content of a PNG file.

    Args:
      pixels: `(height, width)` or `(height, width, 1 or 3)` uint8.
      smallest: images with a shorter side are enlarged by a whole factor, without smoothing.
      largest: images with a longer side are reduced to it.
    """
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1:] == (1,) else pixels)
    factor = -(-smallest // min(image.size))
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def encode_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """`(height, width, 3)` uint8 as the content of a JPEG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _on_white(image):
    from PIL import Image

    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _square(image, size, resampling):
    width, height = image.size
    if (width, height) == (size, size):
        return image
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    # When it shrinks an image, Pillow averages over all pixels that a new one covers.
    return image.resize((size, size), resampling)
