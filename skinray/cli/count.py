"""The verb for one image: no run folder, no Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinray.cli.options import Anyway, UsedBundle, plain_number
from skinray.errors import SkinrayError

if TYPE_CHECKING:
    from skinray.crossings.detect import CrossingsRecord


def count(
    image: Annotated[Path, typer.Argument(help="A PNG, JPEG, TIFF or OME-TIFF file.")],
    bundle: UsedBundle = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(
            parser=plain_number, metavar="NUMBER", help="Micrometres per pixel; overrides the file."
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="Also draw what was found on the image, as a JPEG file.")
    ] = None,
    anyway: Anyway = False,
) -> None:
    """Count the crossings in one biopsy, or find the skin in one photograph.

    Computes in float32, as `skinray score --exact` does. Example:

        skinray count biopsy.png --bundle run/bundle --overlay found.jpg
    """
    from skinray.crossings.detect import CrossingsRecord
    from skinray.files import STARTER, sha256_of, write_whole
    from skinray.learning.bundle import load
    from skinray.scoring.kinds import SCORED_KINDS

    if overlay is not None and overlay.resolve() == image.resolve():
        raise SkinrayError(f"{overlay}: this is the image itself: name another file")
    folder = bundle or STARTER
    loaded = load(folder)
    if not anyway:
        loaded.info.refuse_failed(folder)
    pixels, scale = loaded.seen(image, um_per_px)
    maps = loaded.maps(pixels, scale)
    result, draw = SCORED_KINDS[loaded.info.kind].find(loaded.info, maps, pixels, scale)
    if isinstance(result, CrossingsRecord):
        lines = _crossings(result, loaded.info.limits_of_agreement)
        notes = [loaded.info.note_on(sha256_of(image)), *result.warnings]
    else:
        lines = [
            f"skin: {result.skin_fraction:.1%} of the photograph, {result.skin_px} px "
            f"(confidence {result.confidence:.2f})"
        ]
        notes = [loaded.info.note_on(sha256_of(image))]
    typer.echo("\n".join([*lines, *(f"note: {note}" for note in notes if note)]))
    if overlay is not None:
        write_whole(overlay, draw()["overlay"])
        typer.echo(f"Overlay: {overlay}")


def _crossings(found: CrossingsRecord, limits: tuple[float, float] | None) -> list[str]:
    """Return a count, its lengths and its error in words."""
    lines = [f"{found.count} crossing{'s' * (found.count != 1)}"]
    if found.boundary_mm is not None:
        density = ""
        if found.density_per_mm is not None:
            density = f", {found.density_per_mm:.2f} crossings per mm"
        lines.append(f"boundary: {found.boundary_mm:.3f} mm{density} ({found.um_per_px:g} um/px)")
    else:
        lines.append(f"boundary: {found.boundary_px:.0f} px; give --um-per-px for a density")
    if limits is not None:
        lines.append(
            f"counting error: {limits[0]:+.1f} to {limits[1]:+.1f} crossings (95 % limits of "
            "agreement)"
        )
    return lines
