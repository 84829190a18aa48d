"""What a scoring run says of itself: ``run.json``, and the rows of ``counts.parquet``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.errors import SkinrayError
from skinray.report.cohort_tally import Row

RUN, COUNTS = "run.json", "counts.parquet"
BATCH_ROWS = 4096
COLUMNS = (
    "image", "subject", "status", "error", "count", "boundary_px", "boundary_mm",
    "density_per_mm", "um_per_px", "duplicate_of", "overlay",
)  # fmt: skip


@dataclass(frozen=True)
class BundleFacts:
    """The bundle that counted, as far as the run or the bundle's folder tells."""

    id: str
    folder: str = ""
    created: str = ""
    images: int | None = None
    subjects: int | None = None
    members: int = 1
    um_per_px: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CohortRun:
    """``run.json``, and the bundle it names."""

    told: dict[str, Any]
    bundle: BundleFacts


def is_scoring_run(folder: Path) -> bool:
    """Whether a folder is that of ``skinray score``."""
    return (folder / RUN).is_file()


def read_run(folder: Path) -> CohortRun:
    """Read ``run.json``; SkinrayError if it is missing or damaged."""
    path = folder / RUN
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkinrayError(
            f"{path}: cannot be read ({error.strerror}); name the --out of a `skinray score`"
        ) from None
    except ValueError as error:
        raise SkinrayError(f"{path}: not valid JSON ({error}); score into a new --out") from None
    if not isinstance(told, dict):
        raise SkinrayError(f"{path}: not a scoring run; score into a new --out")
    return CohortRun(told, _bundle(told))


def read_rows(folder: Path) -> Iterator[list[Row]]:
    """Yield the rows of ``counts.parquet`` in order, a batch of fixed size at a time.

    Raises
    ------
    SkinrayError
        The file is missing, damaged, or lacks a column.
    """
    path = folder / COUNTS
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise SkinrayError(
                    f"{path}: has no column {', '.join(missing)}; write it again with "
                    "`skinray score --resume`"
                )
            for batch in file.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                yield batch.to_pylist()
    except FileNotFoundError:
        raise SkinrayError(
            f"{path}: missing, so the run has not come to its end; go on with "
            "`skinray score --resume` and the same --out"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SkinrayError(
            f"{path}: not a whole parquet file ({error}); remove it and go on with "
            "`skinray score --resume`"
        ) from None


def _bundle(told: dict[str, Any]) -> BundleFacts:
    """Take the bundle's facts from the run; what it lacks, from the folder, if still the same."""
    named = told.get("bundle")
    values = dict(named) if isinstance(named, dict) else {}
    folder = str(values.get("path") or values.get("folder") or (named if not values else "") or "")
    found = str(told.get("bundle_id") or values.get("id") or "")
    values = _of_folder(folder, found) | values
    models = values.get("models")
    named_models = models if isinstance(models, dict) else {}
    return BundleFacts(
        id=found,
        folder=folder,
        created=str(values.get("created") or ""),
        images=values.get("images"),
        subjects=values.get("subjects"),
        members=values.get("members") or 1,
        um_per_px=values.get("um_per_px"),
        metrics=values.get("metrics") or {},
        models={
            stage: str(model["name"] if isinstance(model, dict) else model)
            for stage, model in named_models.items()
        },
        versions=values.get("versions") or {},
    )


def _of_folder(folder: str, wanted: str) -> dict[str, Any]:
    """Return ``bundle.json``'s values; nothing if it is gone or another bundle's."""
    if not folder:
        return {}
    try:
        values = json.loads((Path(folder) / "bundle.json").read_text(encoding="utf-8"))
        same = values["sha256"]["bundle.json"] == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return dict(values) if same else {}
