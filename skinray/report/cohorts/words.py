"""A scored cohort in plain words, for readers in a hospital laboratory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinray.report.cohorts.pictures import MOST_NAMED
from skinray.report.cohorts.run import BundleFacts
from skinray.report.cohorts.subjects import SharedImage
from skinray.report.cohorts.tally import Tally


@dataclass(frozen=True)
class Warned:
    """Something to look at before the results are used.

    Attributes
    ----------
    title, meaning : what was found, and what to do about it.
    names : the first of the images; ``images`` of them there are.
    """

    title: str
    meaning: str
    images: int
    names: Sequence[str]


def more(warned: Warned) -> int:
    """Return how many images a warning is about beyond those it names."""
    return max(0, warned.images - min(len(warned.names), MOST_NAMED))


def limits(bundle: BundleFacts, outside: str) -> list[str]:
    """Return what the bundle's results are good for, and what not.

    Parameters
    ----------
    outside : what lies outside of what was measured, and how to compare.
    """
    said = ["For research. Not a medical device: no diagnosis may rest on these results alone."]
    if not bundle.found:
        said.append(
            f"The bundle is no longer in {bundle.folder or 'its folder'}, so how good it was "
            "cannot be told here. Put it back and run `skinray report` again."
        )
    elif not bundle.metrics:
        said.append("The bundle carries no measured accuracy: how good its results are is unknown.")
    else:
        said.append(f"The figures below were measured on {outside}")
    return said


def opening(tally: Tally, thing: str, done: str, of: str = "") -> str:
    """Say how many images there were, how many were scored, how many failed, how many were twice.

    Parameters
    ----------
    thing, done : what they are called and what was done to them, as in "image" and "counted".
    of : stands after their number.
    """
    if not tally.images:
        return f"The run's input held no {thing}, so nothing was {done}."
    failed = f", {grouped(tally.failed)} failed" if tally.failed else " and none failed"
    text = f"Of {many(tally.images, thing)}{of}, {grouped(tally.scored)} were {done}{failed}."
    if tally.images == 1:
        text = f"The one {thing} " + ("failed." if tally.failed else f"was {done}.")
    if tally.duplicates:
        text += (
            f" {many(tally.duplicates, thing)} had the same bytes as another and"
            f" {'was' if tally.duplicates == 1 else 'were'} computed once with it."
        )
    return text


def of_two_subjects(shared: tuple[int, Sequence[SharedImage]]) -> Warned:
    """Return what is to be said of images listed for two subjects: how many, and the first."""
    return Warned(
        "One image under two subjects",
        "The same bytes are listed for two subjects: one of the two rows names the wrong "
        "person or the wrong file. Correct the manifest and score again.",
        shared[0],
        [f"{s.image} ({s.subject}) = {s.original} ({s.other_subject})" for s in shared[1]],
    )


def many(number_of: int, thing: str) -> str:
    """Return a number with its thing: 1 image, 2 images."""
    return f"{grouped(number_of)} {thing}{'' if number_of == 1 else 's'}"


def grouped(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")
