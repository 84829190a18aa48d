"""The run folder and the demo cohort of a command that names none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from skinray.errors import SettingsError
from skinray.images.phantoms.cohort import write_cohort
from skinray.learning.run_folder import refuse_foreign

# The demo's synthetic cohort: enough images to train on, small enough for minutes on two cores.
DEMO_IMAGES, DEMO_SUBJECTS, DEMO_SIZE, DEMO_SEED = 40, 10, (384, 288), 0


def default_out(recipe: str) -> Path:
    """Return ``runs/RECIPE-TIME`` in the current folder, or ``RECIPE-TIME`` in ``SKINRAY_RUNS``.

    A submitted job runs in a copy of the working folder that the cluster deletes later, so there
    the run folder is in the home folder.
    """
    base = os.environ.get("SKINRAY_RUNS")
    in_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    root = Path(base) if base else (Path.home() / "skinray-runs" if in_job else Path("runs"))
    return (root / f"{recipe}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()


def run_folder(out: Path | None, recipe: str, *, resume: bool) -> Path:
    """Return the absolute folder that a command will run in.

    Raises
    ------
    SettingsError
        If this run cannot use it, or ``resume`` is set without a folder.
    """
    if resume and out is None:
        raise SettingsError("--resume continues an interrupted run: give its folder with --out")
    chosen = (out or default_out(recipe)).absolute()
    refuse_foreign(chosen, resume=resume)
    return chosen


def demo_cohort(out: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the synthetic cohort beside the run folder; draw it if it does not exist yet."""
    out = out.absolute()
    folder = out.with_name(out.name + "-cohort")
    if not (folder / "manifest.csv").is_file():
        write_cohort(
            folder, DEMO_IMAGES, DEMO_SEED, DEMO_SIZE, subjects=DEMO_SUBJECTS, progress=progress
        )
    return folder
