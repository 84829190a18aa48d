"""The paper's own figures: "Automated Skin Biopsy Analysis with Limited Data", section 4."""

from __future__ import annotations

from typing import NamedTuple


class MeanSd(NamedTuple):
    """A mean and its standard deviation over the images, as the paper prints them."""

    mean: float
    sd: float


class RAndP(NamedTuple):
    """A correlation and its p value, as the paper prints them (below .001 as 0)."""

    r: float
    p: float


IMAGES = 94
SUBJECTS = 24
HELD_OUT = 10

# Table 1: nerve labelling on the 10 held-out images; tolerance k in pixels -> score.
NERVE = {
    "U-Net": {0: MeanSd(0.585, 0.083), 1: MeanSd(0.814, 0.085), 3: MeanSd(0.918, 0.079)},
    "HED not pretrained": {
        0: MeanSd(0.549, 0.083),
        1: MeanSd(0.778, 0.089),
        3: MeanSd(0.885, 0.085),
    },
    "HED transfer learning": {
        0: MeanSd(0.611, 0.067),
        1: MeanSd(0.845, 0.054),
        3: MeanSd(0.950, 0.036),
    },
}

# Table 2: dermis labelling on the same 10 images.
DERMIS = {
    "U-Net": {0: MeanSd(0.958, 0.027)},
    "DeepLabV3 not pretrained": {0: MeanSd(0.979, 0.012)},
    "DeepLabV3 transfer learning": {0: MeanSd(0.986, 0.007)},
}

# Table 3: correlation of the counts with the expert's, fold 1 to 5.
FOLDS = (
    RAndP(0.835, 0.00),
    RAndP(0.465, 0.04),
    RAndP(0.772, 0.00),
    RAndP(0.931, 0.00),
    RAndP(0.760, 0.00),
)
FOLD_MEAN = MeanSd(0.753, 0.156)

# Section 4.3: the 10 held-out images.
HELD_OUT_MODEL = RAndP(0.834, 0.002)
HELD_OUT_SECOND_EXPERT = RAndP(0.467, 0.173)


def network(stage: str, model: str, pretrained: bool) -> str | None:
    """Return the row of table 1 or 2 that a network belongs to; None if it has none.

    Parameters
    ----------
    stage : ``nerve`` or ``dermis``.
    model : the network's name, in :data:`skinray.models.MODELS` or as a label.
    pretrained : whether its training started from published weights; the paper's U-Net did.
    """
    name = model.lower().replace("-", "").replace("_", "")
    table = NERVE if stage == "nerve" else DERMIS
    if "unet" in name:
        return "U-Net" if pretrained else None
    start = "transfer learning" if pretrained else "not pretrained"
    # The light DeepLab is a network of our own.
    family = "HED" if "hed" in name else "DeepLabV3" if "deeplabv3" in name else ""
    row = f"{family} {start}"
    return row if row in table else None
