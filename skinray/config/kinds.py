"""The two kinds of image and the stages that segment them: the words that all packages share."""

from __future__ import annotations

from typing import Literal

# What an image is: a biopsy under the microscope, or a clinical photograph.
Kind = Literal["biopsy", "photo"]
# What a network segments.
Stage = Literal["nerve", "dermis", "skin"]
# The stages that an image of each kind goes through, in their order.
STAGES: dict[Kind, tuple[Stage, ...]] = {"biopsy": ("nerve", "dermis"), "photo": ("skin",)}
