"""One Ray session for the whole run, and a cohort and settings small enough for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skinray.config import AugmentSettings, RunSettings, TrainSettings
from skinray.recipes import demo


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """A local Ray of 4 logical CPUs, shared by all tests that need one."""
    import ray

    ray.init(
        address="local", num_cpus=4, log_to_driver=False, object_store_memory=400_000_000,
        _node_ip_address="127.0.0.1",
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve phantoms of six subjects."""
    from skinray.images.phantom_cohort import write_cohort

    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    return write_cohort(folder, 12, seed=3, size=(224, 192), subjects=6).parent


@pytest.fixture
def small_settings() -> RunSettings:
    """Three folds, two epochs, networks of a few thousand parameters."""
    return small()


def small(epochs: int = 2) -> RunSettings:
    """Settings of a run that takes seconds a training."""
    train = TrainSettings(
        loss="dice", learning_rate=3e-3, weight_decay=1e-4, epochs=epochs, batch_size=2,
        validate_every_epochs=100,
    )  # fmt: skip
    unet = {"features": 4, "depth": 3}
    main = {
        "label": "U-Net", "model": {"name": "unet", "options": unet}, "train": train.model_dump(),
        "grid": {"train.learning_rate": (1e-3, 3e-3)},
    }  # fmt: skip
    stage = {
        "main": main, "baselines": [], "augment": AugmentSettings(crop_px=96, translate_px=10),
    }  # fmt: skip
    dermis = {**stage, "main": {**main, "train": train.override({"loss": "bce"}).model_dump()}}
    return demo().override(
        {
            "recipe": "small", "nerve": stage, "dermis": dermis, "folds.count": 3,
            "fit.max_images": 4, "fit.grid": {"nerve_threshold": (0.3, 0.5)}, "fit.rounds": 1,
        }
    )  # fmt: skip
