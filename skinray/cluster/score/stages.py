"""The stages of scoring, in one actor or through Ray Data: batches in, committed parts out.

Between stages an image travels as plain bytes with its shape. A row that is already settled (a
failure, or bytes seen under another name) travels along as it is, so that every entry is committed.

The driver imports this module too. Networks, and torch with them, are imported only where they
compute: that takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skinray.cluster.score.claims import ClaimActors
from skinray.config.kinds import Stage
from skinray.config.scoring import BackendName
from skinray.scoring.rows import Scored, commit, result_of
from skinray.scoring.score_image import Job, Opened

if TYPE_CHECKING:
    import torch

_ARRAYS = ("pixels", "nerve", "dermis", "skin")
WIRE = pa.schema(
    [
        *((name, pa.string()) for name in ("image", "identity", "key", "sha256")),
        *((name, pa.string()) for name in ("settled", "backend")),
        ("um_per_px", pa.float64()), ("height", pa.int64()), ("width", pa.int64()),
        *((name, pa.large_binary()) for name in _ARRAYS),
    ]
)  # fmt: skip


def backend_of(job: Job, device: torch.device) -> BackendName:
    """Return what computes the job's networks on a device of this machine."""
    if job.settings.backend != "auto":
        return job.settings.backend
    from skinray.learning.bundle.backend import choose

    return choose(Path(job.bundle), job.info, device, job.first if job.long else None)


class Scorer:
    """All stages in one actor."""

    def __init__(self, job: Job, claims: ClaimActors) -> None:
        from skinray.cluster.device import ready_device
        from skinray.learning.bundle import load

        device = ready_device(job.settings.threads)
        self.job, self.claims = job, claims
        self.backend = backend_of(job, device)
        self.bundle = load(job.bundle, device, self.backend)
        job.check_bundle()

    def ready(self) -> None:
        """Answer once the networks are loaded."""

    def score(self, batch: int) -> int:
        """Score and commit a whole batch; return how many images."""
        rows = []
        for entry in self.job.entries(batch):
            opened = self.job.open(entry, self.claims.ask)
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
        return self.job.finish(opened, maps, self.backend)


def decode(batches: pa.Table, job: Job, claims: ClaimActors) -> Iterator[pa.Table]:
    """Read and decode whole batches; yield an image per table, so that large ones fit in memory."""
    for batch in batches["id"].to_pylist():
        for entry in job.entries(batch):
            opened = job.open(entry, claims.ask)
            claims.ended(opened.key, entry.image)
            yield _to_wire(opened)


class Predict:
    """One stage's networks, in their own actor."""

    def __init__(self, job: Job, stage: Stage) -> None:
        from skinray.cluster.device import ready_device
        from skinray.learning.bundle import load_stage

        device = ready_device(job.settings.threads)
        self.stage, backend = stage, backend_of(job, device)
        self.model = load_stage(job.bundle, job.info, stage, device, backend)

    def __call__(self, images: pa.Table) -> pa.Table:
        """Fill in the column of this stage's maps."""
        from skinray.learning.bundle.networks import joined

        rows = images.to_pylist()
        for row in rows:
            if row["settled"] is not None:
                continue
            opened = _from_wire(row)
            try:
                row[self.stage] = self.model.map(opened.pixels, opened.um_per_px).tobytes()
                row["backend"] = joined({row["backend"] or self.model.backend, self.model.backend})
            except Exception as error:  # whatever it is, it is this image's row
                row |= _settled(opened.failed(error))
        return pa.Table.from_pylist(rows, WIRE)


def finish(images: pa.Table, job: Job) -> pa.Table:
    """Count, write files and commit the images as one part; return how many."""
    rows = [_finished(row, job) for row in images.to_pylist()]
    if rows:
        commit(job.out, rows)
    return pa.table({"done": [len(rows)]})


def _finished(row: dict[str, Any], job: Job) -> Scored:
    if row["settled"] is not None:
        facts = json.loads(row["settled"])
        result = facts.pop("result")
        return Scored(**facts, result=result and result_of(result))
    opened = _from_wire(row)
    shape = opened.pixels.shape[:2]
    stages = job.info.stages
    maps = {stage: np.frombuffer(row[stage], np.float32).reshape(shape) for stage in stages}
    return job.finish(opened, maps, row["backend"])


def _to_wire(opened: Opened | Scored) -> pa.Table:
    if isinstance(opened, Scored):
        row = {"image": opened.image, **_settled(opened)}
    else:
        row = {**vars(opened), "pixels": np.ascontiguousarray(opened.pixels).tobytes()}
        row |= {"height": opened.pixels.shape[0], "width": opened.pixels.shape[1]}
    return pa.Table.from_pylist([row], WIRE)


def _settled(row: Scored) -> dict[str, Any]:
    return {"settled": json.dumps(row.as_row()), **dict.fromkeys(_ARRAYS)}


def _from_wire(row: dict[str, Any]) -> Opened:
    pixels = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3)
    names = ("image", "identity", "key", "sha256", "um_per_px")
    return Opened(**{name: row[name] for name in names}, pixels=pixels)
