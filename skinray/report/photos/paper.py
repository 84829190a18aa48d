"""The second paper's own figures: "Segmentation of both Diseased and Healthy Skin ...", table I.

They are of its own photographs, and quoted as printed but without zeros before the point.
"""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One network: parameters, epoch time, and Jaccard (Dice) of each scenario.

    The paper names neither the training nor the hardware that its epoch times are from.
    """

    parameters: str
    epoch_time: str
    scores: tuple[str, str, str]


PAPER: dict[str, Published] = {
    "skin_dense_unet": Published("149.9M", "680 s", (".55 (.71)", ".80 (.89)", ".88 (.94)")),
    "skin_unet_large": Published("150M", "697 s", (".51 (.67)", ".83 (.91)", ".89 (.94)")),
    "skin_unet": Published("7.5M", "363 s", (".44 (.61)", ".79 (.88)", ".89 (.94)")),
}
PAPER_EPOCHS, PAPER_TEST, PAPER_TRAIN, PAPER_PUBLIC = 500, 300, 100, 2620
