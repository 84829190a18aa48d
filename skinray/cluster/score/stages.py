"""The stages of scoring, in one actor or through Ray Data: batches in, committed parts out.

From stage to stage images travel as plain bytes with their shape; a row whose fate is settled (a
failure, a second name of the same bytes) travels along as its finished row, so that every entry is
committed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from skinray.cluster.malloc import keep_freed_memory
from skinray.cluster.score.claims import ClaimActors
from skinray.cluster.session import assigned_device
from skinray.config.kinds import Stage
from skinray.config.scoring import ScoreSettings
from skinray.errors import BundleError
from skinray.learning.bundle import load, load_stage
from skinray.learning.bundle.info import BundleInfo, read_info
from skinray.scoring.entries import Entry, from_rows
from skinray.scoring.image_store import Store, open_store
from skinray.scoring.rows import Scored, commit, result_of
from skinray.scoring.run_folder import PENDING
from skinray.scoring.run_store import Output
from skinray.scoring.score_image import Opened, finish_image, open_image

BATCHES_PER_FILE = 128
WIRE = pa.schema(
    [
        ("image", pa.string()), ("identity", pa.string()), ("key", pa.string()),
        ("sha256", pa.string()), ("um_per_px", pa.float64()), ("height", pa.int64()),
        ("width", pa.int64()), ("settled", pa.string()), ("pixels", pa.large_binary()),
        ("nerve", pa.large_binary()), ("dermis", pa.large_binary()), ("skin", pa.large_binary()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What all stages of a run share."""

    images: str
    bundle: str
    info: BundleInfo
    out: Output
    settings: ScoreSettings

    def entries(self, batch: int) -> list[Entry]:
        """Return the entries of one batch, out of the run."""
        size = self.settings.images_per_part
        file, at = divmod(batch, BATCHES_PER_FILE)
        data = io.BytesIO(self.out.read(f"{PENDING}/{file:06d}.parquet"))
        table = pq.read_table(data, partitioning=None)
        return list(from_rows(table.slice(at * size, size).to_pylist()))

    def check_bundle(self) -> None:
        """Raise BundleError if the bundle is not the one the run began with."""
        if read_info(Path(self.bundle)).id != self.info.id:
            raise BundleError(f"{self.bundle}: replaced while it was used; start the run again")


@dataclass
class Opener:
    """Opens the entries of batches, one image at a time."""

    job: Job
    claims: ClaimActors
    store: Store | None = None

    def __call__(self, entry: Entry) -> Opened | Scored:
        """Open one entry."""
        if self.store is None:
            self.store, _ = open_store(self.job.images)
        job = self.job
        return open_image(entry, self.store, job.settings, job.info.um_per_px, self.claims.ask)


class Fused:
    """All stages in one actor."""

    def __init__(self, job: Job, claims: ClaimActors) -> None:
        device = _device(job)
        self.job, self.claims, self.opener = job, claims, Opener(job, claims)
        self.bundle = load(job.bundle, device)
        job.check_bundle()

    def ready(self) -> None:
        """Answer once the networks are loaded."""

    def score(self, batch: int) -> int:
        """Score and commit a whole batch; return how many images."""
        rows = []
        for entry in self.job.entries(batch):
            opened = self.opener(entry)
            rows.append(self._row(opened))
            self.claims.ended(opened.key, entry.image)
        commit(self.job.out, rows)
        return len(rows)

    def _row(self, opened: Opened | Scored) -> Scored:
        if isinstance(opened, Scored):
            return opened
        try:
            maps = self.bundle.maps(opened.pixels, opened.um_per_px)
        except Exception as error:  # whatever it is, it is this image's row
            return opened.failed(error)
        return finish_image(opened, maps, self.job.info, self.job.settings, self.job.out)


@dataclass
class Decode:
    """Reads and decodes batches of entries, an image a table, so that large ones fit in memory."""

    job: Job
    claims: ClaimActors

    def __call__(self, batches: pa.Table) -> Iterator[pa.Table]:
        """Yield the images of whole batches."""
        opener = Opener(self.job, self.claims)
        for batch in batches["id"].to_pylist():
            for entry in self.job.entries(batch):
                opened = opener(entry)
                self.claims.ended(opened.key, entry.image)
                yield _to_wire(opened)


class Predict:
    """One stage's networks in an actor of their own."""

    def __init__(self, job: Job, stage: Stage) -> None:
        device = _device(job)
        self.stage, self.model = stage, load_stage(job.bundle, job.info, stage, device)

    def __call__(self, images: pa.Table) -> pa.Table:
        """Fill in the column of this stage's maps."""
        rows = images.to_pylist()
        for row in rows:
            if row["settled"] is not None:
                continue
            opened = _from_wire(row)
            try:
                row[self.stage] = self.model.map(opened.pixels, opened.um_per_px).tobytes()
            except Exception as error:  # whatever it is, it is this image's row
                row |= _settled(opened.failed(error))
        return pa.Table.from_pylist(rows, WIRE)


@dataclass
class Finish:
    """Counts, writes and commits."""

    job: Job

    def __call__(self, images: pa.Table) -> pa.Table:
        """Commit the images as one part; return how many."""
        rows = [self._row(row) for row in images.to_pylist()]
        if rows:
            commit(self.job.out, rows)
        return pa.table({"done": [len(rows)]})

    def _row(self, row: dict[str, Any]) -> Scored:
        if row["settled"] is not None:
            facts = json.loads(row["settled"])
            result = facts.pop("result")
            return Scored(**facts, result=result and result_of(result))
        opened = _from_wire(row)
        shape = opened.pixels.shape[:2]
        job = self.job
        maps = {
            stage: np.frombuffer(row[stage], np.float32).reshape(shape) for stage in job.info.stages
        }
        return finish_image(opened, maps, job.info, job.settings, job.out)


def _device(job: Job) -> torch.device:
    keep_freed_memory()
    torch.set_num_threads(job.settings.threads)
    return assigned_device()


def _to_wire(opened: Opened | Scored) -> pa.Table:
    if isinstance(opened, Scored):
        row = {"image": opened.image, **_settled(opened)}
    else:
        row = {**vars(opened), "pixels": np.ascontiguousarray(opened.pixels).tobytes()}
        row |= {"height": opened.pixels.shape[0], "width": opened.pixels.shape[1]}
    return pa.Table.from_pylist([row], WIRE)


def _settled(row: Scored) -> dict[str, Any]:
    nothing = dict.fromkeys(("pixels", "nerve", "dermis", "skin"))
    return {"settled": json.dumps(row.as_row()), **nothing}


def _from_wire(row: dict[str, Any]) -> Opened:
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3)
    names = ("image", "identity", "key", "sha256", "um_per_px")
    return Opened(**{name: row[name] for name in names}, pixels=pixels)
