"""One training epoch and one prediction of each network for photographs: time, peak memory.

Run: ``python -m benchmarks.photos.networks --data DIR``, a folder with ``images`` and ``masks``; by
default ``abd_skin`` in ``SKINRAY_REAL_DATA``. Each network runs in its own process, without Ray.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import machine, versions, write
from skinray.cli import guarded
from skinray.config.images import ReadSettings
from skinray.config.photos import WHOLE, PhotoSettings
from skinray.errors import SettingsError
from skinray.images.photos.pairs import load_photo, split_photos
from skinray.images.photos.public_sets import find_set
from skinray.images.read import read_image
from skinray.learning.photos.trials import PhotoTrials, photos_fingerprint
from skinray.learning.trial import run_trial, trained_network
from skinray.models.predict import predict_map

TRAIN, TEST = 100, 1
GIB = 1 << 30
# What getrusage counts in: bytes on macOS, KiB elsewhere.
RSS_UNIT = 1 if os.uname().sysname == "Darwin" else 1024


@dataclass(frozen=True)
class Measured:
    """One network: its parameters, an epoch's and a prediction's seconds, peaks in bytes."""

    label: str
    parameters: int
    images: int
    epoch_s: float
    loss: float
    validation: float
    predict_s: float
    skin: float
    peak: int
    gpu_peak: int | None


def main() -> None:
    """Measure, print and write ``results/photo_networks.md``."""
    options = arguments()
    settings = PhotoSettings(train_images=options.train, test_images=TEST).lasting(1)
    if options.networks:
        settings = settings.only(options.networks)
    rows = []
    for at, arm in enumerate(settings.networks):
        # A new process each: the peak is a process's own, and nothing of the one before is in it.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (options.data, settings, at)))
        print(f"{arm.label}: {rows[-1]}", flush=True)
    write("photo_networks", lines(rows))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = os.environ.get("SKINRAY_REAL_DATA")
    parser.add_argument("--data", type=Path, default=Path(home) / "abd_skin" if home else None)
    parser.add_argument("--train", type=int, default=TRAIN, help="photographs, 20 %% to validate")
    parser.add_argument("--networks", action="append", help="repeatable; default: the paper's")
    options = parser.parse_args(argv)
    if options.data is None:
        raise SettingsError("name a folder with images/ and masks/ as --data")
    return options


def measure(data: Path, settings: PhotoSettings, at: int) -> Measured:
    """Train the network at this place for an epoch on the folder, and let it predict once."""
    split = split_photos(find_set(data), settings.train_images, TEST)
    everything = (*split.train, *split.validation, *split.test)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        trials = PhotoTrials(settings, split, split, photos_fingerprint(everything), Path(folder))
        spec = trials.direct()[at]
        samples = [load_photo(p, settings.load_px, ReadSettings()) for p in trials.photos]
        outcome = run_trial(spec, samples, Path(folder) / spec.key, device=device)
        network = trained_network(spec, Path(folder) / spec.key).to(device)
    image = read_image(split.test[0].image, ReadSettings()).pixels
    began = time.monotonic()
    found = predict_map(network, image, device, WHOLE)
    predict_s = time.monotonic() - began
    if not np.isfinite(found).all():
        raise SystemExit(f"{spec.arm.label}: a map that is not finite, so its figures mean nothing")
    (epoch,) = outcome.history
    return Measured(
        label=spec.arm.label,
        parameters=sum(p.numel() for p in network.parameters()),
        images=epoch.images,
        epoch_s=epoch.seconds,
        loss=epoch.loss,
        validation=float("nan") if epoch.validation is None else epoch.validation,
        predict_s=predict_s,
        skin=float((found >= 0.5).mean()),
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT,
        gpu_peak=torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
    )


def lines(rows: Sequence[Measured]) -> list[str]:
    """Return the result as Markdown."""
    told = [
        "# One epoch of each network for photographs",
        "",
        "Batches of 16 crops of 128x128 px and SGD with momentum, as the paper trains; then one",
        "photograph predicted at its own size. Peak memory is the whole process's, PyTorch itself",
        "included, over both.",
        "",
        f"Machine: {machine()}. {versions('torch')}, {torch.get_num_threads()} threads.",
        "",
        "| network | parameters | images | s an epoch | loss | prediction, s | peak GiB | GPU |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        gpu = "no GPU" if row.gpu_peak is None else f"{row.gpu_peak / GIB:.2f}"
        told.append(
            f"| {row.label} | {row.parameters:,} | {row.images} | {row.epoch_s:.0f} "
            f"| {row.loss:.3f} | {row.predict_s:.2f} | **{row.peak / GIB:.2f}** | {gpu} |"
        )
    return told


if __name__ == "__main__":
    guarded(main)
