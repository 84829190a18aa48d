"""A made-up run on photographs: seeded scores, views, curves and drawings, in its folder."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinray.config.images import ReadSettings
from skinray.config.photos import PhotoSettings
from skinray.images.photos.pairs import find_photos
from skinray.learning.photos.scores import Look, PhotoScore, summarise
from skinray.learning.photos.trials import SCENARIOS, Scenario
from skinray.learning.photos.views import views
from skinray.report.biopsies.results import Curve, CurvePoint
from skinray.report.photos.examples import write_examples
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import PhotoResults
from tests.support.drawn_photos import write_photos

PHOTOS = 60
SKILL: dict[Scenario, float] = {
    "direct transfer": 0.55,
    "direct training": 0.8,
    "fine-tuning": 0.9,
}
PARAMETERS = {"skin_unet": 7_463_645, "skin_deeplabv3": 11_024_000}
EPOCH_S: dict[Scenario, float] = {
    "direct transfer": 21.4,
    "direct training": 1.23,
    "fine-tuning": 0.456,
}


def fake_scores(skill: float, seed: int) -> list[PhotoScore]:
    """Scores around a skill that falls with the tone; the last photographs have no tone."""
    photos, luck = np.random.default_rng(0), np.random.default_rng(seed)
    scores = []
    for at in range(PHOTOS):
        ita, light = float(photos.uniform(-20, 60)), float(photos.uniform(30, 75))
        skin = int(photos.integers(1000, 9000))
        share = np.clip(skill + 0.002 * ita + luck.normal(0, 0.05), 0.05, 0.98)
        scores.append(
            PhotoScore(
                name=f"ward/{at:03d}.jpg", md5=f"{at:032x}", pixels=10_000, skin=skin,
                predicted=skin, both=int(skin * share), lightness=light,
                ita_deg=ita if at < PHOTOS - 2 else None,
            )
        )  # fmt: skip
    return scores


def red_is_skin(image: NDArray[np.uint8]) -> Look:
    """What a network that knows red makes of a photograph; its confidence is the red itself."""
    return Look(image[..., 0].astype(np.float32) / 255, image[..., 0] > 140)


def fake_rows(run: Path) -> list[PhotoRow]:
    photos = find_photos(write_photos(run.parent / "ward", 3, size=(90, 120)))
    rows = []
    networks = [("U-Net", "skin_unet", False), ("U-Net", "skin_unet", True)]
    networks.append(("DeepLabV3", "skin_deeplabv3", False))
    for scenario in SCENARIOS:
        for at, (label, model, flips) in enumerate(networks):
            scores = fake_scores(SKILL[scenario] - 0.03 * at, at)
            examples = write_examples(
                run, f"{scenario}-{label}-{flips}".replace(" ", "-"), photos, scores[:3],
                red_is_skin, ReadSettings(),
            )  # fmt: skip
            lacking = (
                "random weights, since deeplabv3_mobilenet_v3_large_coco_voc was not available"
            )
            rows.append(
                PhotoRow(
                    network=label, model=model, scenario=scenario, epochs=20, flips=flips,
                    summary=summarise(scores, 200, 0), photos=scores, best_epoch=17,
                    parameters=PARAMETERS[model], epoch_s=EPOCH_S[scenario] * (at + 1),
                    begun=lacking if model == "skin_deeplabv3" else "random weights",
                    views=views(scores, 200, 0), examples=examples,
                )
            )  # fmt: skip
    return rows


def fake_photo_results(run: Path) -> PhotoResults:
    def curve(arm: str, split: str) -> Curve:
        points = [
            CurvePoint(epoch=e, loss=1 / e, learning_rate=0.01, validation=1 - 1 / e)
            for e in range(1, 21)
        ]
        return Curve(stage="skin", arm=arm, split=split, points=points)

    return PhotoResults(
        data="ward", public=["hgr:HGR", "faces"], fingerprint="f" * 64, pretraining_images=40,
        train_images=30, test_images=PHOTOS, rows=fake_rows(run),
        started="2026-01-01T00:00:00+00:00", seconds=90, versions={"skinray": "0"},
        hardware="2 cores", sources={"hgr": 20, "faces": 20},
        curves=[curve(arm, s) for arm in ("U-Net", "DeepLabV3") for s in SCENARIOS],
        settings=PhotoSettings().lasting(20).model_dump(mode="json"),
    )  # fmt: skip


def write_photo_run(folder: Path) -> Path:
    """Write a finished run below ``folder`` and return its folder."""
    run = folder / "run"
    run.mkdir(parents=True)
    fake_photo_results(run).save(run)
    return run


def untimed(table: Path) -> str:
    """Return a run's table without its epoch times, which no two runs share."""
    text = table.read_text(encoding="utf-8")
    if table.suffix == ".md":
        return re.sub(r"\| [\d.]+ s \|", "| TIME |", text)
    lines = list(csv.DictReader(io.StringIO(text)))
    return str([{k: v for k, v in line.items() if k != "epoch_s"} for line in lines])
