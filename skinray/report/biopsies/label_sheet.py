"""Every image of a cohort with its labels as skinray understands them, for a person to look at."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from skinray.config.biopsies import CrossingSettings
from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.errors import CohortError, SkinrayError
from skinray.files import write_whole
from skinray.images.cohort.manifest import load_dermis, load_nerves
from skinray.images.cohort.rows import Biopsy
from skinray.images.cohort.scan import scan_cohort
from skinray.images.read import read_image
from skinray.scoring.overlays import BOUNDARY, encode_jpeg, overlay

WIDTH_PX = 700
# The dermis is shown darker than the rest by this factor.
DERMIS_SHADE = 0.72
BRIGHT_NERVE = (0, 150, 255)
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Labels of {title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(320px, 1fr)); gap: 1rem; }}
figure {{ margin: 0; }} img {{ width: 100%; display: block; }}
figcaption {{ overflow-wrap: anywhere; }} .bad {{ color: #b00020; }}
</style></head><body>
<h1>Labels of {title}</h1>
<p>Blue: nerves. Green: boundary. Darkened: dermis. Red rings: crossings of the labels. If an image
looks wrong here, it would be trained on wrongly.</p>
<main>
{figures}
</main></body></html>
"""


def draw_labels(
    data: Path, out: Path, read: ReadSettings, progress: Callable[[int, int], None]
) -> Path:
    """Draw the images of a cohort into a new folder; return its page.

    An image or label that cannot be read gets a line that says why.

    Raises CohortError if the table cannot be read, or the folder has files already.
    """
    scan = scan_cohort(data)
    if not scan.stated.biopsies:
        raise CohortError(f"{data}: {scan.problems[0] if scan.problems else 'no images'}")
    if out.exists() and any(out.iterdir()):
        raise CohortError(f"{out}: has files already: name a new folder for the pictures")
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    for done, biopsy in enumerate(scan.stated.biopsies, start=1):
        figures.append(_figure(biopsy, out, f"{done:04d}.jpg", read))
        progress(done, len(scan.stated.biopsies))
    page = out / "index.html"
    text = PAGE.format(title=html.escape(data.name), figures="\n".join(figures))
    write_whole(page, text.encode())
    return page


def _figure(biopsy: Biopsy, out: Path, name: str, read: ReadSettings) -> str:
    """Draw one image; return its part of the page."""
    try:
        image = read_image(biopsy.image, biopsy.reading(read))
        shape = (image.pixels.shape[0], image.pixels.shape[1])
        nerves, dermis = load_nerves(biopsy, shape, read), load_dermis(biopsy, shape, read)
        scale = biopsy.um_per_px or image.um_per_px
        settings = CrossingSettings().at_scale(scale)
        found = find_crossings(nerves, dermis.astype(np.float32), settings, scale)
        drawn = _drawn(image.pixels, nerves, dermis, found.boundary, found.points)
        write_whole(out / name, encode_jpeg(drawn, WIDTH_PX))
    except SkinrayError as error:
        return f'<figure><p class="bad">{html.escape(str(error))}</p></figure>'
    counted = "no count" if biopsy.count is None else f"counted {biopsy.count}"
    facts = (
        f"row {biopsy.row}: {biopsy.name}, subject {biopsy.subject}; {shape[1]}x{shape[0]} px, "
        f"{'scale unknown' if scale is None else f'{scale:g} um per pixel'}; {counted}, labels "
        f"cross {found.count} times; dermis {dermis.mean():.0%}"
    )
    return (
        f'<figure><img src="{name}" alt="labels of {html.escape(biopsy.name)}" loading="lazy">'
        f"<figcaption>{html.escape(facts)}</figcaption></figure>"
    )


def _drawn(
    pixels: NDArray[np.uint8],
    nerves: NDArray[np.bool_],
    dermis: NDArray[np.bool_],
    boundary: NDArray[np.bool_],
    points: NDArray[np.float64],
) -> NDArray[np.uint8]:
    drawn = np.where(dermis[..., None], (DERMIS_SHADE * pixels).astype(np.uint8), pixels)
    thick = max(1, round(pixels.shape[1] / WIDTH_PX))
    around = np.ones((thick, thick), np.uint8)
    # Opaque, unlike in overlays: here the label is looked at, not what is under it.
    for mask, colour in ((boundary, BOUNDARY), (nerves, BRIGHT_NERVE)):
        drawn[cv2.dilate(mask.astype(np.uint8), around) > 0] = colour
    nothing = np.zeros_like(nerves)
    return overlay(np.ascontiguousarray(drawn), nothing, nothing, points)
