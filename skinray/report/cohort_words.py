"""A scored cohort in plain words, for readers in a hospital laboratory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinray.report.cohort_pictures import MOST_NAMED
from skinray.report.cohort_run import BundleFacts


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


def many(number_of: int, thing: str) -> str:
    """Return a number with its thing: 1 image, 2 images."""
    return f"{grouped(number_of)} {thing}{'' if number_of == 1 else 's'}"


def grouped(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")
