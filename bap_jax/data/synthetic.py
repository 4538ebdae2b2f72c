"""Made-up images in the file layouts of the real data sets, to try a whole run in seconds.

Each class has bright stripes, vertical or horizontal, of its own width and colour. Noise is
stronger for some groups than for others. So networks can learn the classes, and pruning costs some
groups more than others. The images say nothing about any real person.
"""

import atexit
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from bap_jax.data.builders import celeba, fairface, utkface
from bap_jax.data.images import encode_jpeg
from bap_jax.data.listing import MADE_UP
from bap_jax.data.locking import locked
from bap_jax.data.request import Request
from bap_jax.data.spec import DatasetSpec
from bap_jax.errors import UserError

CELEBA_COLUMNS = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)


def make_folder(spec: DatasetSpec, request: Request) -> Path:
    """A folder with `request.synthetic` made-up samples of a data set, in its file layout.

    Args:
      spec: the data set, which must have `made_up`.
      request: its cache keeps the folder; without a cache it is removed when Python exits.

    Raises:
      UserError: there are too few samples for every group to appear in every split.
    """
    assert spec.made_up is not None
    if request.synthetic < spec.made_up.least:
        raise UserError(
            f"config.data.synthetic must be 0, or at least {spec.made_up.least} samples of "
            f"{spec.name}; got {request.synthetic}."
        )
    if request.cache is None:
        folder = Path(tempfile.mkdtemp(prefix="bap_jax_synthetic_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    else:
        folder = Path(request.cache) / f"synthetic-{spec.name}-{request.synthetic}"
    mark = folder / MADE_UP
    with locked(folder):
        if not mark.exists():
            spec.made_up.write(folder, request.synthetic, np.random.default_rng(0))
            mark.touch()
    return folder


def image(rng: np.random.Generator, shape: tuple[int, int], label: int, noise: float) -> np.ndarray:
    """Stripes that show the label, under noise.

    Args:
      rng: draws the phase of the stripes and the noise.
      shape: `(height, width)`.
      label: the class id.
      noise: its standard deviation, where pixels are 0 … 255.

    Returns:
      `(height, width, 3)` uint8.
    """
    height, width = shape
    along = np.arange(width)[None, :] if label % 2 else np.arange(height)[:, None]
    period = (2 + label // 2 % 4) * min(shape) / 16
    stripes = np.sin(2 * np.pi * along / period + rng.uniform(0, 6))
    colour = np.array([1, 0.4 + 0.1 * (label // 8 % 5), 1.2 - 0.1 * (label // 40)])
    pixels = 128 + 50 * stripes[..., None] * colour
    pixels = np.broadcast_to(pixels, (height, width, 3)) + noise * rng.normal(size=(*shape, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_utkface(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes files as `list_utkface` reads them, see `spec.WriteImages`."""
    for i in range(count):
        age, gender, race = int(rng.integers(1, 90)), i % 2, i // 2 % len(utkface.RACES)
        name = f"{age}_{gender}_{race}_{20170000000000000 + i}.jpg.chip.jpg"
        pixels = image(rng, (200, 200), gender, 30 + 25 * race)
        (folder / name).write_bytes(encode_jpeg(pixels))
    name = "61_1_20170109150557335.jpg.chip.jpg"  # the real set has incomplete names, too
    (folder / name).write_bytes(encode_jpeg(pixels))


def write_fairface(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes files as `list_fairface` reads them, see `spec.WriteImages`."""
    tables = dict.fromkeys(fairface.TABLES, "file,age,gender,race,service_test\n")
    for i in range(count):
        race, gender = i % len(fairface.RACES), i // len(fairface.RACES) % 2
        age = fairface.AGES[int(rng.integers(len(fairface.AGES)))].replace("3-9", "03-Sep")
        split = "val" if i % 5 == 4 else "train"
        path = folder / split / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(image(rng, (224, 224), race, 20 + 40 * gender)))
        row = f"{split}/{i}.jpg,{age},{fairface.GENDERS[gender]},{fairface.RACES[race]},False\n"
        tables[f"fairface_label_{split}.csv"] += row
    for name, text in tables.items():
        (folder / name).write_text(text)


def write_celeba(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes files as `list_celeba` reads them, see `spec.WriteImages`."""
    blond, male = (CELEBA_COLUMNS.index(name) for name in ("Blond_Hair", "Male"))
    attributes = [str(count), " ".join(CELEBA_COLUMNS)]
    partition = []
    with zipfile.ZipFile(folder / celeba.ARCHIVE, "w") as archive:
        for i in range(count):
            values = rng.choice([-1, 1], len(CELEBA_COLUMNS))
            name = f"{i + 1:06d}.jpg"
            label, group = int(values[blond] > 0), int(values[male] > 0)
            content = encode_jpeg(image(rng, (218, 178), label, 30 + 60 * group))
            archive.writestr(f"{celeba.FOLDER}/{name}", content)
            attributes.append(f"{name} " + " ".join(f"{value:2d}" for value in values))
            partition.append(f"{name} {0 if i % 10 < 7 else 1 if i % 10 < 8 else 2}")
    (folder / celeba.ATTRIBUTES).write_text("\n".join(attributes) + "\n")
    (folder / celeba.PARTITION).write_text("\n".join(partition) + "\n")


def write_cifar100(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Writes files as `list_cifar100` reads them, see `spec.WriteImages`."""
    per_class = count // 100
    for name, repeats in (("train.bin", per_class - per_class // 6), ("test.bin", per_class // 6)):
        rows = []
        for i in range(100 * repeats):
            fine = i % 100
            pixels = image(rng, (32, 32), fine, 20).transpose(2, 0, 1)
            rows.append(np.concatenate([[fine // 5, fine], pixels.ravel()]).astype(np.uint8))
        (folder / name).write_bytes(np.stack(rows).tobytes())
