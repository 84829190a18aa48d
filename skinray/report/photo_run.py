"""Which files a run on photographs leaves, and how to tell its folder."""

from __future__ import annotations

from pathlib import Path

TABLE, PHOTOS, VIEWS = "table1", "photos.csv", "views.csv"


def is_photo_run(folder: Path) -> bool:
    """Whether a folder is that of ``skinray train-photos``."""
    return (folder / f"{TABLE}.csv").is_file()
