"""Micrometres per pixel, as image files and tables state them, and which values are believed.

Most resolution fields are meant for printers: 72, 96, 300 dpi are 353, 265, 85 um per pixel. A
microscope or slide scanner is below 20 um per pixel, so a value outside [``MIN_UM_PER_PX``,
``MAX_UM_PER_PX``] is ignored, wherever it comes from (converters copy printing resolutions into
OME-XML too). So is a resolution without a unit.
"""

from __future__ import annotations

import math

from skinray.config.base import parse_number
from skinray.images.file_errors import UnreadableImageError

MIN_UM_PER_PX = 0.01
MAX_UM_PER_PX = 20.0

SCALE_RANGE = f"a number of micrometres from {MIN_UM_PER_PX:g} to {MAX_UM_PER_PX:g}"

UM_PER_INCH = 25_400.0
UM_PER_CM = 10_000.0
UM_PER_M = 1e6

_UM_PER_UNIT = {
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # Greek mu
    "um": 1.0,
    "\\u00b5m": 1.0,  # as ImageJ escapes it
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": UM_PER_INCH,
    "in": UM_PER_INCH,
}


def um_per_unit(unit: str) -> float | None:
    """Return the micrometres of a length unit, by name; None for any other name."""
    return _UM_PER_UNIT.get(unit.strip().lower())


def from_resolution(pixels_x: float, pixels_y: float, um: float | None) -> tuple[float, ...]:
    """Convert pixels per unit along x and y, with ``um`` in a unit, to micrometres per pixel."""
    if um is None or pixels_x <= 0 or pixels_y <= 0:
        return ()
    return um / pixels_x, um / pixels_y


def believed(um_per_px: tuple[float, ...], source: str) -> float | None:
    """Return the one scale of x and y; None if none is stated or it is not a microscope's.

    Raises ImageError if the file states a microscope's scale, but pixels that are not square (by
    over 1 %).
    """
    if not um_per_px or not all(is_plausible(value) for value in um_per_px):
        return None
    low, high = min(um_per_px), max(um_per_px)
    if high > 1.01 * low:
        raise UnreadableImageError(
            source,
            f"pixels are not square ({um_per_px[0]:.4g} by {um_per_px[1]:.4g} um)",
            "resample the image to square pixels",
        )
    return um_per_px[0]


def is_plausible(um_per_px: float) -> bool:
    """Return whether a scale can be that of a microscope or slide scanner."""
    return math.isfinite(um_per_px) and MIN_UM_PER_PX <= um_per_px <= MAX_UM_PER_PX


def parse_um_per_px(text: str, *, decimal_comma: bool = False) -> float:
    """Read the scale in a table's cell; ValueError, which says so, unless it is ``SCALE_RANGE``."""
    try:
        value = parse_number(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        value = math.nan
    if not is_plausible(value):
        raise ValueError(f"'{text}' is not {SCALE_RANGE}")
    return value
