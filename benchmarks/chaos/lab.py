"""What the chaos suite breaks: a cohort to score and one to train on, with undisturbed results."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.chaos.jobs import Scoring, Training, epochs_of, scored, trained
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.config.base import from_yaml, to_yaml
from skinray.config.biopsies import RunSettings
from skinray.config.images import AugmentSettings
from skinray.config.recipes import demo
from skinray.config.training import TrainSettings
from skinray.images.augment import Sample
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.spec import TrialSpec

IMAGES, SIZE, EPOCHS = 48, (900, 1200), 8
SCORING = ["--set", "images_per_part=2", "--set", "fused.actors=2"]


@dataclass(frozen=True)
class Happened:
    """What happened to a disturbed job.

    Attributes
    ----------
    equal : whether its final results are those of an undisturbed run.
    what : what happened, in words.
    recovery_s : from the fault, or from the call to resume, to the first new result of what was
        hit; None if nothing had to recover.
    """

    equal: bool
    what: str
    recovery_s: float | None = None


class Lab:
    """Cohorts, recipe and undisturbed results, made once; scratch for one fault after the other.

    Attributes
    ----------
    calm_epochs : epochs of each trial of the undisturbed trainings that were run so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self.calm_epochs: dict[str, int] = {}

    def scratch(self) -> Path:
        """Return a new folder."""
        self.number += 1
        place = self.folder / f"{self.number:03d}"
        place.mkdir()
        return place

    def score(
        self,
        out: Path | str,
        *options: str,
        env: dict[str, str] | None = None,
        images: str | None = None,
        log: Path | None = None,
    ) -> Scoring:
        """Start a scoring."""
        named = ["--bundle", str(self.bundle), "--images", images or str(self.images)]
        return Scoring(out, log or Path(f"{out}.log"), [*named, *SCORING, *options], env)

    def train(
        self,
        out: Path,
        *options: str,
        env: dict[str, str] | None = None,
        search: bool = False,
        log: Path | None = None,
    ) -> Training:
        """Start a training, with or without a grid search before it."""
        recipe = self.recipe_with_search if search else self.recipe
        named = ["--data", str(self.cohort), "--recipe", str(recipe)]
        return Training(out, log or Path(f"{out}.log"), [*named, *options], env)

    @cached_property
    def bundle(self) -> Path:
        """A bundle of stand-in networks."""
        return stand_in_bundle(self.folder / "bundle")

    @cached_property
    def images(self) -> Path:
        """Images that take a moment each, one of them twice, one damaged."""
        folder = self.folder / "images"
        folder.mkdir()
        for at in range(IMAGES):
            pixels = drawn_image(at, SIZE, nerves=at % 9)
            cv2.imwrite(str(folder / f"{at:03d}.png"), pixels[..., ::-1])
        shutil.copy(folder / "003.png", folder / "twin.png")
        (folder / "damaged.png").write_bytes((folder / "001.png").read_bytes()[:5000])
        return folder

    @cached_property
    def cohort(self) -> Path:
        """Twelve phantoms of six subjects."""
        return write_cohort(
            self.folder / "cohort" / "phantoms", 12, seed=3, size=(224, 192), subjects=6
        ).parent

    @cached_property
    def recipe(self) -> Path:
        """A training of some seconds an epoch, long enough to be broken in the middle."""
        return self._recipe("recipe", {})

    @cached_property
    def recipe_with_search(self) -> Path:
        """The same after a grid search."""
        return self._recipe("search", {"train.learning_rate": (1e-3, 3e-3)})

    @cached_property
    def calm_scored(self) -> dict[str, Any]:
        """What scoring gives undisturbed."""
        out = self.scratch() / "out"
        self.score(out).end()
        return scored(out)

    @cached_property
    def calm_trained(self) -> dict[str, Any]:
        """What training gives undisturbed."""
        return self._calm_run(search=False)

    @cached_property
    def calm_searched(self) -> dict[str, Any]:
        """What training after a search gives undisturbed."""
        return self._calm_run(search=True)

    def _calm_run(self, search: bool) -> dict[str, Any]:
        out = self.scratch() / "out"
        self.train(out, search=search).end()
        self.calm_epochs |= epochs_of(out)
        return trained(out)

    def small_trial(self) -> tuple[TrialSpec, list[Sample]]:
        """Return a trial of a few steps, and its three images."""
        rng = np.random.default_rng(0)
        samples = []
        for _ in range(3):
            pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
            mask = (pixels[..., 0] > 127).astype(np.uint8)
            samples.append(Sample(pixels, {"nerve": mask}))
        settings = from_yaml(RunSettings, self.recipe)
        arm = settings.nerve.main.override({"train.epochs": 4})
        augment = settings.nerve.augment.override({"crop_px": 32, "translate_px": 4})
        spec = TrialSpec(
            key="chaos", phase="fit", stage="nerve", arm=arm, augment=augment, split="fold-1",
            train=(0, 1, 2), names=("a.png", "b.png", "c.png"), seed=1, data="drawn",
        )  # fmt: skip
        return spec, samples

    def _recipe(self, name: str, grid: dict[str, Any]) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(to_yaml(quick_settings(EPOCHS, grid)), encoding="utf-8")
        return path


def quick_settings(epochs: int, grid: dict[str, Any]) -> RunSettings:
    """Return settings of a run that takes seconds a training: three folds, tiny networks."""
    train = TrainSettings(
        loss="dice", learning_rate=3e-3, weight_decay=1e-4, epochs=epochs, batch_size=2,
        validate_every_epochs=100,
    )  # fmt: skip
    main = {
        "label": "U-Net", "grid": grid, "train": train.model_dump(),
        "model": {"name": "unet", "options": {"features": 4, "depth": 3}},
    }  # fmt: skip
    augment = AugmentSettings(crop_px=96, translate_px=10)
    nerve = {"main": main, "baselines": [], "augment": augment}
    dermis = {**nerve, "main": {**main, "train": train.override({"loss": "bce"}).model_dump()}}
    return demo().override(
        {
            "recipe": "small", "nerve": nerve, "dermis": dermis, "folds.count": 3,
            "fit.max_images": 4, "fit.grid": {"nerve_threshold": (0.3, 0.5)}, "fit.rounds": 1,
            "cluster.checkpoint_every_s": 0,
        }
    )  # fmt: skip


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[Path]:
    """Mount a small file system in memory; PermissionError for who may not."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise PermissionError(f"no small disk could be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def enlarge(place: Path, kib: int) -> None:
    """Give a small disk more room."""
    subprocess.run(["mount", "-o", f"remount,size={kib}k", str(place)], check=True)
