"""A scored cohort of biopsies in plain words, for readers in a hospital laboratory."""

from __future__ import annotations

from collections.abc import Sequence

from skinray.report.cohort_subjects import SharedImage
from skinray.report.cohort_words import Warned, many, of_two_subjects, opening
from skinray.report.count_choice import Choice
from skinray.report.count_tally import CountTally
from skinray.report.tables import number

OUTSIDE = (
    "images of the training's laboratory. Another stain, thickness, magnification or laboratory "
    "is outside what was measured: count some of these images by eye and compare before relying "
    "on the rest."
)


def answer(tally: CountTally, subjects: int) -> str:
    """Return what the run found, in one sentence or two."""
    of = f" of {many(subjects, 'subject')}" if subjects else ""
    text = opening(tally, "image", "counted", of)
    if not tally.images:
        return text
    if not tally.counts.n:
        return f"{text} There are no counts to report."
    text += f" An image with a boundary has {number(tally.counts.mean, 1)} crossings on average"
    if tally.pooled_density is None:
        return f"{text}; without a known scale there is no density."
    return f"{text}, and {number(tally.pooled_density, 2)} a millimetre of boundary."


def warnings(
    tally: CountTally, choice: Choice, shared: tuple[int, Sequence[SharedImage]]
) -> list[Warned]:
    """Return what needs a look, with the images it is about, most important first."""
    far = "" if tally.far_count is None else f" (above {number(tally.far_count, 0)} crossings)"
    trained = tally.bundle_um_per_px
    found = [
        of_two_subjects(shared),
        Warned(
            "No boundary found",
            "The dermis fills the whole image, or none of it, so there is nothing to count "
            "along. The count 0 of these images says nothing about nerves, and they are left "
            "out of every mean here: leave them out of yours. Look at them: some may show no "
            "junction of dermis and epidermis, and some may be misread.",
            tally.without_boundary,
            choice.without_boundary,
        ),
        Warned(
            f"Count far outside the rest{far}",
            "More than three times the middle half's range above it. Often folded or damaged "
            "tissue, or another stain: look at the overlays.",
            choice.far_images,
            [f"{row['image']} ({row['count']})" for row in choice.far],
        ),
        Warned(
            "Scale far from the training images'",
            f"More than twice or less than half of {number(trained, 3)} um/px, at which the "
            "bundle was trained. Check um_per_px; counts at such scales were not measured.",
            tally.far_scale,
            choice.far_scale,
        ),
        Warned(
            "Scale not known",
            "These images have no length in mm and no density, and were taken to be at the "
            "scale of the training images. Give um_per_px in the manifest, or, where all images "
            "share one scale, as --um-per-px.",
            tally.without_scale,
            choice.without_scale,
        ),
    ]
    return [warned for warned in found if warned.images]
