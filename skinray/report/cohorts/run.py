"""A scoring run as its report reads it: ``run.json``, and the rows of its table of images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skinray.config.kinds import Kind
from skinray.errors import SkinrayError
from skinray.learning.bundle.info import NOT_TRAINED
from skinray.report.cohorts.tally import ImageRow
from skinray.scoring.kinds import SCORED_KINDS

RUN = "run.json"
BATCH_ROWS = 4096
_SHARED = ("image", "subject", "status", "error", "note", "duplicate_of", "overlay")
# What the reports read, by what was scored.
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "biopsy": (
        *_SHARED, "count", "boundary_px", "boundary_mm", "density_per_mm", "um_per_px",
    ),
    "photo": (*_SHARED, "skin_fraction", "confidence"),
}  # fmt: skip


@dataclass(frozen=True)
class BundleFacts:
    """The bundle that scored, as its ``bundle.json`` describes it; it may be gone by now.

    Attributes
    ----------
    found : whether the folder still holds that bundle; if not, only ``id``, ``folder`` and
        ``um_per_px`` are known, from the run itself.
    failures : what did not work in the run that made it.
    """

    id: str
    folder: str
    um_per_px: float | None
    found: bool = False
    created: str = ""
    images: int = 0
    subjects: int = 0
    members: int = 1
    metrics: dict[str, Any] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class CohortRun:
    """``run.json``: what was scored, when, with which settings and versions."""

    kind: Kind
    images: str
    created: str
    settings: dict[str, Any]
    versions: dict[str, str]
    bundle: BundleFacts
    note: str = ""  # what every row says about the bundle
    synthetic: bool = False  # skinray drew the images that the bundle was trained on

    @property
    def of_starter(self) -> bool:
        """Whether the starter scored, which has seen no image of a patient."""
        return NOT_TRAINED in self.note

    @property
    def table(self) -> str:
        """Name of the table of images, without its ending."""
        return SCORED_KINDS[self.kind].table


def is_scoring_run(folder: Path) -> bool:
    """Return whether ``skinray score`` wrote a folder."""
    return (folder / RUN).is_file()


def read_run(folder: Path) -> CohortRun:
    """Read ``run.json``; SkinrayError if it is missing or damaged."""
    path = folder / RUN
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SkinrayError(
            f"{path}: cannot be read ({error.strerror}); give the --out folder of `skinray score`"
        ) from None
    except ValueError as error:
        raise SkinrayError(f"{path}: not valid JSON ({error}); score into a new folder") from None
    if not isinstance(values, dict):
        raise SkinrayError(f"{path}: not a scoring run; score into a new folder")
    note = str(values.get("note") or "")
    return CohortRun(
        kind="photo" if values.get("kind") == "photo" else "biopsy",
        images=str(values.get("images") or ""),
        created=str(values.get("created") or ""),
        settings=values.get("settings") or {},
        versions=values.get("versions") or {},
        bundle=_bundle(values),
        note=note,
        synthetic=bool(values.get("synthetic")) or NOT_TRAINED in note,
    )


def read_rows(folder: Path, run: CohortRun) -> Iterator[list[ImageRow]]:
    """Yield the rows of the table of images in order, in batches of a fixed size.

    Raises
    ------
    SkinrayError
        The file is missing, damaged, or lacks a column.
    """
    path, columns = folder / f"{run.table}.parquet", COLUMNS[run.kind]
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                raise SkinrayError(
                    f"{path}: has no column {', '.join(missing)}; write it again with "
                    "`skinray score --resume`"
                )
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                yield batch.to_pylist()
    except FileNotFoundError:
        raise SkinrayError(
            f"{path}: missing, so the run has not finished; continue it with "
            "`skinray score --resume` and the same --out"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SkinrayError(
            f"{path}: damaged or incomplete ({error}); delete it and continue with "
            "`skinray score --resume`"
        ) from None


def _bundle(run: dict[str, Any]) -> BundleFacts:
    found = BundleFacts(
        id=str(run.get("bundle") or ""),
        folder=str(run.get("bundle_path") or ""),
        um_per_px=run.get("trained_um_per_px"),
    )
    try:
        values = json.loads((Path(found.folder) / "bundle.json").read_text(encoding="utf-8"))
        if values["sha256"]["bundle.json"] != found.id:
            return found
        return replace(
            found,
            found=True,
            **{name: values[name] for name in ("created", "images", "subjects", "metrics")},
            members=values.get("members", 1),
            failures=tuple(values.get("failures", ())),
            models={stage: model["name"] for stage, model in values["models"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return found
