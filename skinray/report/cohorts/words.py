"""The sentences that the reports of all scored cohorts share."""

from __future__ import annotations

from skinray.report.cohorts.run import BundleFacts
from skinray.report.cohorts.tally import Tally
from skinray.report.tables import grouped, many

ON_DRAWINGS = (
    "other drawn biopsies, and on no image of a patient: count some of these images by eye and "
    "compare before you rely on the rest."
)


def limits(bundle: BundleFacts, measured_on: str) -> list[str]:
    """Return what the bundle's results are good for and what they are not.

    Parameters
    ----------
    measured_on : which images the bundle's accuracy was measured on, and what to do for others.
    """
    said = ["For research use only. This is not a medical device: do not base a diagnosis on it."]
    if not bundle.found:
        said.append(
            f"The bundle is no longer in {bundle.folder or 'its folder'}, so its accuracy cannot "
            "be shown. Put it back and run `skinray report` again."
        )
    elif not bundle.metrics:
        said.append("The bundle has no measured accuracy: how good these results are is unknown.")
    else:
        said.append(f"The accuracy below was measured on {measured_on}")
    return said


def on_training_images(tally: Tally) -> list[str]:
    """Say how many images the bundle was trained on, if any."""
    seen = tally.trained_on
    if not seen:
        return []
    what = "count" if tally.table == "counts" else "mask"
    looks = f"its {what} looks better than it is" if seen == 1 else ""
    return [
        f"{grouped(seen)} of {many(tally.images, 'image')} {_were(seen)} in the bundle's training "
        f"set: {looks or f'their {what}s look better than they are'}. The column note of "
        f"{tally.table}.csv says which."
    ]


def summary(tally: Tally, noun: str, verb: str, subjects: int = 0) -> str:
    """Say how many images there were, how many were scored, how many failed, how many are copies.

    Parameters
    ----------
    noun, verb : what the images are called and what was done with them: "image", "counted".
    """
    if not tally.images:
        return f"The input had no {noun}s, so nothing was {verb}."
    if tally.images == 1:
        text = f"The one {noun} " + ("failed." if tally.failed else f"was {verb}.")
    else:
        source = f" from {many(subjects, 'subject')}" if subjects else ""
        failed = grouped(tally.failed) if tally.failed else "none"
        text = (
            f"Of {many(tally.images, noun)}{source}, {grouped(tally.scored)} "
            f"{_were(tally.scored)} {verb} and {failed} failed."
        )
    if tally.duplicates:
        copies = "is an exact copy" if tally.duplicates == 1 else "are exact copies"
        text += (
            f" {many(tally.duplicates, noun)} {copies} of another and "
            f"{_were(tally.duplicates)} left out of the figures."
        )
    return text


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
