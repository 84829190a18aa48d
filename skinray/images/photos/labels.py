"""Skin as the public sets mark it: masks, inverted masks, coloured parts, labelled superpixels.

Published masks also come as BMP and PPM. These are read here, for labels only: photographs to score
must have the formats of :mod:`skinray.images.read`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.images.file_errors import UnfitLabelError, reading_label
from skinray.images.formats.decoder_noise import meaning_of
from skinray.images.formats.mask import to_mask
from skinray.images.formats.raster import Raster, check_size
from skinray.images.read import decode_image, read_bytes, read_mask

Coding = Literal["mask", "dark mask", "green part", "superpixels", "no skin"]
"""How a file marks skin.

``mask``: the higher of two values. ``dark mask``: black on white (HGR). ``green part``: green, with
hair in red and background in blue (LFW parts). ``superpixels``: a class for each superpixel of a
second file (LFW parts). ``no skin``: no skin anywhere; the file is the photograph itself.
"""

# LFW parts: the folder of the superpixels, beside that of their classes; and the class of skin
# (0 is hair, 2 is background).
SUPERPIXELS, SKIN = "parts_lfw_funneled_superpixels_mat", 1
_COPY_AGAIN = "copy it from the published set again"
_PLAIN = {b"BM": "BMP", b"P3": "PPM", b"P5": "PPM", b"P6": "PPM"}


def read_skin(path: Path, coding: Coding, settings: ReadSettings) -> NDArray[np.bool_]:
    """Return where a label file marks skin, (H, W) bool on the file's own pixels.

    Raises LabelError if the file cannot be read, or has another coding.
    """
    if coding == "superpixels":
        return _superpixels(path)
    with reading_label():
        data = read_bytes(path, settings)
        if coding == "no skin":
            return np.zeros(decode_image(data, str(path), settings).pixels.shape[:2], bool)
        if coding == "mask" and data[:2] not in _PLAIN:
            return read_mask(path, settings)
        values = _pixels(data, path, settings)
    if coding == "mask":
        return to_mask(Raster(values, 8), str(path))
    if coding == "green part":
        return _green(values, path)
    bright = values.max(axis=2) >= 128
    return np.asarray(~bright if coding == "dark mask" else bright)


def superpixels_of(classes: Path) -> Path:
    """Return the file of superpixels for a file of their classes."""
    return classes.parents[2] / SUPERPIXELS / classes.parent.name / classes.name


def _pixels(data: bytes, path: Path, settings: ReadSettings) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 of a label image: BMP, PPM, or a photograph's formats."""
    kind = _PLAIN.get(data[:2])
    if kind is None:
        return decode_image(data, str(path), settings).pixels
    try:
        with Pillow.open(io.BytesIO(data), formats=[kind]) as image:
            check_size(*image.size, settings.max_pixels, str(path))
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Pillow.DecompressionBombError) as error:
        raise UnfitLabelError(
            str(path), f"damaged {kind} ({meaning_of(error)})", _COPY_AGAIN
        ) from None


def _green(values: NDArray[np.uint8], path: Path) -> NDArray[np.bool_]:
    red, green, blue = (values[..., channel] >= 128 for channel in range(3))
    one = red.astype(np.uint8) + green + blue
    # Programs that converted the files left a few mixed pixels; more means another coding.
    if (one != 1).mean() > 0.02:
        raise UnfitLabelError(
            str(path),
            "not in the colours of LFW parts",
            "use the published images: red hair, green skin, blue background",
        )
    return np.asarray(green & ~red & ~blue)


def _superpixels(path: Path) -> NDArray[np.bool_]:
    """Read the classes (their number, then one per superpixel) and the map of superpixels."""
    where = superpixels_of(path)
    count, *classes = _numbers(path).ravel().tolist()
    pixels = _numbers(where)
    if count != len(classes) or pixels.ndim != 2 or not 0 <= pixels.min() <= pixels.max() < count:
        raise UnfitLabelError(
            str(path),
            f"declares {count} classes and has {len(classes)}, with superpixels up to "
            f"{pixels.max()} in {where.name}",
            "copy both files from the published set again",
        )
    return np.asarray(np.array(classes)[pixels] == SKIN)


def _numbers(path: Path) -> NDArray[np.int64]:
    try:
        found = np.loadtxt(path, dtype=np.int64)
    except (OSError, ValueError) as error:
        raise UnfitLabelError(
            str(path), f"not a table of whole numbers ({error})", _COPY_AGAIN
        ) from None
    if not found.size:
        raise UnfitLabelError(str(path), "empty", _COPY_AGAIN)
    return found
