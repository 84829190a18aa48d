"""Rows of a run's table made by hand, and the folder of a run with those rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.scoring.kinds import AREAS, COUNTS

Row = dict[str, Any]


def scored(
    image: str, count: int, boundary_px: float, um_per_px: float | None = 0.5, **others: Any
) -> Row:
    """An image with a count."""
    boundary_mm = None if um_per_px is None else boundary_px * um_per_px / 1000
    return blank() | {
        "image": image, "status": "ok", "count": count, "boundary_px": float(boundary_px),
        "boundary_mm": boundary_mm, "density_per_mm": count / boundary_mm if boundary_mm else None,
        "um_per_px": um_per_px, "width": 64, "height": 48, "overlay": f"overlays/{image}.jpg",
        "geojson": f"geojson/{image}.geojson",
    } | others  # fmt: skip


def area(image: str, fraction: float, confidence: float = 0.95, **others: Any) -> Row:
    """A photograph with its area of skin."""
    return blank(AREAS) | {
        "image": image, "status": "ok", "skin_px": round(64 * 48 * fraction),
        "skin_fraction": fraction, "confidence": confidence, "width": 64, "height": 48,
        "overlay": f"overlays/{image}.jpg", "mask": f"masks/{image}.png",
    } | others  # fmt: skip


def failed(image: str, error: str, **others: Any) -> Row:
    """An image without a count."""
    return blank() | {"image": image, "status": "failed", "error": error} | others


def blank(schema: pa.Schema = COUNTS) -> Row:
    """A row with every column and no value."""
    return dict.fromkeys(schema.names)


def write_scored(folder: Path, rows: Sequence[Row], **told: Any) -> Path:
    """Write a run folder as scoring leaves it, without pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "bundle": "ab" * 32, "bundle_path": str(folder / "none"), "images": "/cohort",
        "created": "2026-01-02T03:04:05+00:00", "trained_um_per_px": 0.5,
        "settings": {"overlays": True}, "versions": {"skinray": "0.1.0"},
    } | told  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    name, schema = ("areas", AREAS) if told.get("kind") == "photo" else ("counts", COUNTS)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), folder / f"{name}.parquet")
    return folder
