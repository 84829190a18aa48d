"""Small stand-ins for a run's large parts: drawn biopsies, networks of a few weights, settings."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from skinray.config.base import validate
from skinray.config.biopsies import RunSettings, StageSettings
from skinray.config.images import AugmentSettings
from skinray.config.training import ArmSettings, ModelSettings, TrainSettings
from skinray.images.augment import Sample
from skinray.images.cohort.rows import Biopsy, Cohort
from skinray.learning.spec import TrialSpec

SIZE = (96, 128)
UNET = {"features": 4, "depth": 2}


def drawn_sample(seed: int = 0, size: tuple[int, int] = SIZE, nerves: int = 2) -> Sample:
    """A drawn biopsy whose colours are the labels: red marks nerves, green the dermis.

    The dermis is the lower half; ``nerves`` straight lines a few px wide cross its edge.
    """
    height, width = size
    rng = np.random.default_rng(seed)
    dermis = np.zeros(size, np.uint8)
    dermis[height // 2 :] = 1
    nerve = np.zeros(size, np.uint8)
    for at in np.linspace(0, width, nerves + 2)[1:-1].astype(int):
        cv2.line(nerve, (int(at), height // 4), (int(at), 3 * height // 4), 1, 3)
    image = rng.integers(0, 60, (*size, 3), np.uint8)
    image[..., 0] += 180 * nerve
    image[..., 1] += 180 * dermis
    return Sample(image, {"nerve": nerve, "dermis": dermis})


def as_photo(sample: Sample) -> Sample:
    """Return it as a photograph whose skin is the dermis."""
    return Sample(sample.image, {"skin": sample.masks["dermis"]})


class ColourNetwork(nn.Module):
    """Sees through a drawn biopsy: where colour ``channel`` is strong, the logit is high."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def forward(self, image: Tensor) -> Tensor:
        return (image[:, self.channel : self.channel + 1] - 0.5) * 60


NERVE_TRUTH, DERMIS_TRUTH = ColourNetwork(0), ColourNetwork(1)


class ConvNetwork(nn.Module):
    """Three convolutions, with norm and dropout, whose state is easily forgotten."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout),
            nn.Conv2d(8, 1, 1),
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image)
        return logits


class Spy(Sequence[Any]):
    """A sequence that remembers which positions were read."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, at: Any) -> Any:
        self.read.append(at)
        return self.items[at]

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self)))


def biopsy(name: str, subject: str = "S1", group: str | None = None, **known: Any) -> Biopsy:
    """A row of a manifest whose files are never opened."""
    empty = dict.fromkeys(
        ("nerves", "dermis", "boundary", "dermis_side", "count", "second_count", "um_per_px")
    )
    path = Path("cohort") / name
    return Biopsy(name, path, subject, group, **{**empty, "row": 2, **known})


def cohort_of(subjects: Sequence[int]) -> Cohort:
    """A cohort with a number of images per subject; subjects alternate between two groups."""
    rows = [
        biopsy(f"images/{subject}_{at}.png", f"S{subject}", "AB"[subject % 2])
        for subject, count in enumerate(subjects)
        for at in range(count)
    ]
    return Cohort(Path("cohort"), tuple(rows))


def write_drawn_cohort(folder: Path, images: int = 10, subjects: int = 5) -> Path:
    """Write drawn biopsies as a labelled cohort folder; no two images have equal pixels."""
    rows = []
    for at in range(images):
        sample, name = drawn_sample(at, nerves=1 + at % 3), f"{at:02d}.png"
        pixels = {
            "images": sample.image[..., ::-1], "nerves": sample.masks["nerve"] * 255,
            "dermis": sample.masks["dermis"] * 255,
        }  # fmt: skip
        for kind, array in pixels.items():
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / name), array)
        subject = at % subjects
        rows.append(
            {
                "image": f"images/{name}", "subject": f"S{subject}", "group": "AB"[subject % 2],
                "nerves": f"nerves/{name}", "dermis": f"dermis/{name}",
                "count": 1 + at % 3, "um_per_px": 0.5,
            }
        )  # fmt: skip
    write_manifest(folder, rows)
    return folder


def write_manifest(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a cohort's table."""
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Read a cohort's table."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def train_settings(**changes: Any) -> TrainSettings:
    """Two quick epochs of batches of two."""
    quick = {"learning_rate": 1e-2, "weight_decay": 1e-3, "epochs": 2, "batch_size": 2}
    return validate(TrainSettings, quick | changes)


def arm(label: str = "U-Net", grid: dict[str, Any] | None = None, **train: Any) -> ArmSettings:
    """A U-Net of a few hundred weights."""
    return ArmSettings(
        label=label,
        model=ModelSettings(name="unet", options=UNET),
        train=train_settings(**train),
        grid=grid or {},
    )


def tiny_run(**changes: Any) -> RunSettings:
    """A whole run of tiny networks; ``changes`` have dots as double underscores."""
    augment = validate(AugmentSettings, {"crop_px": 32, "translate_px": 8})
    grid = {"train.learning_rate": (1e-3, 1e-2)}
    settings = RunSettings(
        nerve=StageSettings(main=arm(grid=grid), baselines=(arm("U-Net 2"),), augment=augment),
        dermis=StageSettings(main=arm(grid=grid, loss="bce"), augment=augment),
    )
    return settings.override(
        {"folds.components_held_out": 2}
        | {path.replace("__", "."): value for path, value in changes.items()}
    )


def tiny_spec(**changes: Any) -> TrialSpec:
    """A nerve trial on the first three of the samples, validated on none."""
    base = TrialSpec(
        key="fit-nerve-u-net-0-fold-1",
        phase="fit",
        stage="nerve",
        arm=arm(),
        augment=validate(AugmentSettings, {"crop_px": 32, "translate_px": 8}),
        split="fold-1",
        train=(0, 1, 2),
        names=("a.png", "b.png", "c.png"),
        seed=1,
        data="fingerprint",
    )
    return base.override({path.replace("__", "."): value for path, value in changes.items()})


def same_weights(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether two states hold the same bits under the same names."""
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
