"""One Ray session for the whole run, and a cohort and settings small enough for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.lab import quick_settings
from skinray.config.biopsies import RunSettings


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """A local Ray of 4 logical CPUs, shared by all tests that need one."""
    import ray

    from skinray.cluster.ray_internals import on_loopback

    with on_loopback() as alone:
        ray.init(
            address="local", num_cpus=4, log_to_driver=False, object_store_memory=400_000_000,
            **alone,
        )  # fmt: skip
        yield ray
        ray.shutdown()


@pytest.fixture(scope="session")
def small_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve phantoms of six subjects."""
    from skinray.images.phantoms.cohort import write_cohort

    folder = tmp_path_factory.mktemp("cohort") / "phantoms"
    return write_cohort(folder, 12, seed=3, size=(224, 192), subjects=6).parent


@pytest.fixture
def small_settings() -> RunSettings:
    """Three folds, two epochs, networks of a few thousand parameters."""
    return small()


def small(epochs: int = 2) -> RunSettings:
    """Settings of a run with a search of two learning rates; each training takes seconds."""
    return quick_settings(epochs, {"train.learning_rate": (1e-3, 3e-3)})
