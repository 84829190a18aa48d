"""The few facts of OME-XML that reading an image needs."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from skinray.images.problems import UnreadableImageError
from skinray.images.scale import um_per_unit


@dataclass(frozen=True)
class OmeImage:
    """What OME-XML says of the first image.

    Attributes
    ----------
    planes : channels, focal planes, time points.
    um_per_px : along x and y; empty: not stated.
    significant_bits : depth that the samples use; None: all of it.
    """

    planes: tuple[int, int, int]
    um_per_px: tuple[float, ...]
    significant_bits: int | None


def read_ome(xml: str, source: str) -> OmeImage | None:
    """Read OME-XML; None without a Pixels element. ImageError where the XML is broken."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # nothing that could expand or reach outside
        raise UnreadableImageError(
            source, "OME-XML with a document type", "export it again as OME-TIFF"
        )
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  (no document type, see above)
    except ElementTree.ParseError as error:
        raise UnreadableImageError(
            source, f"broken OME-XML ({error})", "export it again as OME-TIFF"
        ) from None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    number = pixels.get
    planes = (int(number("SizeC", 1)), int(number("SizeZ", 1)), int(number("SizeT", 1)))
    sizes = [_micrometres(pixels, axis) for axis in ("X", "Y")]
    bits = number("SignificantBits")
    return OmeImage(
        planes=planes,
        um_per_px=tuple(size for size in sizes if size is not None),
        significant_bits=None if bits is None else int(bits),
    )


def _micrometres(pixels: ElementTree.Element, axis: str) -> float | None:
    size = pixels.get(f"PhysicalSize{axis}")
    um = um_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    return None if size is None or um is None else float(size) * um
