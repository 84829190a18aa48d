"""Shared fixtures: where the real data lies, and one Ray session for the whole run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny import write_drawn_cohort

REAL_DATA = Path(os.environ.get("SKINRAY_REAL_DATA", Path(__file__).parents[1] / "../shared/data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images and weights; the test is skipped where it is missing."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real data at {REAL_DATA}: set SKINRAY_REAL_DATA")
    return REAL_DATA.resolve()


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn biopsies of five subjects as a cohort folder; copy it before damaging it."""
    return write_drawn_cohort(tmp_path_factory.mktemp("drawn") / "cohort")
