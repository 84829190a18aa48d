"""Train and count with no option but ``--data``: drawn cohorts of many sizes, stains and tissues.

Run: ``python -m benchmarks.accuracy.own_images``. Tissue is read from ``skin_pas_dej/`` in the
folder that ``--data`` or SKINRAY_REAL_DATA names. Each cohort goes through ``jobs/train_cv.py``,
planned by the recipe ``auto`` for this machine.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2

from benchmarks.measure import machine, record, recorded, versions, write
from benchmarks.own_cluster import ROOT
from skinray.cli.options import NOT_LEARNED
from skinray.config.biopsies import PhantomSettings
from skinray.images.phantoms.cohort import write_cohort
from skinray.report.biopsies.agreement import agreement
from skinray.report.biopsies.results import RunResults

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
SEED = 5
# What the project asks of itself for each cohort, on two cores.
LEAST_R, LEAST_DICE, MOST_MINUTES = 0.85, 0.93, 45


@dataclass(frozen=True)
class Cohort:
    """A drawn cohort: ``enlarged`` times as many pixels a side, at a finer scale."""

    images: int
    size: tuple[int, int]
    tissue: bool = False
    chromogen: str = "brown"
    enlarged: int = 1

    def many(self, images: int) -> Cohort:
        """Return the same with another number of images."""
        return replace(self, images=images)

    def write(self, folder: Path, tissue: Path) -> None:
        """Draw it into a folder."""
        settings = PhantomSettings(
            chromogen=self.chromogen,  # type: ignore[arg-type]
            um_per_px=PhantomSettings().um_per_px / self.enlarged,
        )
        on = tissue if self.tissue else None
        table = write_cohort(folder, self.images, SEED, self.size, on, settings)
        if self.enlarged > 1:
            for path in sorted(table.parent.glob("*/*.png")):
                pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                how = cv2.INTER_CUBIC if path.parent.name == "images" else cv2.INTER_NEAREST
                both = {"fx": self.enlarged, "fy": self.enlarged}
                cv2.imwrite(str(path), cv2.resize(pixels, None, **both, interpolation=how))
            # The lines are still those of the smaller images.
            rows = list(csv.DictReader(table.open(newline="", encoding="utf-8")))
            with table.open("w", newline="", encoding="utf-8") as stream:
                kept = [name for name in rows[0] if name not in ("boundary", "dermis_side")]
                writer = csv.DictWriter(stream, kept, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(rows)


COHORTS = {
    "512x384, drawn": Cohort(40, (512, 384)),
    "1600x1200, drawn": Cohort(40, (1600, 1200)),
    "1024x1024, real tissue": Cohort(30, (1024, 1024), tissue=True),
    "1024x768, real tissue": Cohort(30, (1024, 768), tissue=True),
    "1024x512, real tissue": Cohort(30, (1024, 512), tissue=True),
    "2048x2048, real tissue, 0.25 um/px": Cohort(24, (1024, 1024), tissue=True, enlarged=2),
    "1024x768, drawn, purple stain": Cohort(40, (1024, 768), chromogen="purple"),
}


def measure(name: str, tissue: Path, scratch: Path) -> dict[str, Any]:
    """Draw a cohort, train on it as a user would, and return what the run says of itself."""
    data, out = scratch / "cohort", scratch / "run"
    COHORTS[name].write(data, tissue)
    began = time.monotonic()
    command = [sys.executable, "jobs/train_cv.py", "--data", str(data), "--out", str(out)]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    minutes = (time.monotonic() - began) / 60
    if code not in (0, NOT_LEARNED):
        sys.exit(f"{name}: the run ended with {code}, before it had results")
    results = RunResults.load(out)
    rows = results.counts
    found = agreement([row.model for row in rows], [row.expert for row in rows])
    return {
        "name": name, "code": code, "minutes": minutes, "images": results.images,
        "r": found.r, "r_interval": found.r_interval, "error": found.mean_absolute_error,
        "nerve_dice": {k: fmean(row.nerve_dice[k] for row in rows) for k in rows[0].nerve_dice},
        "dermis_dice": fmean(row.dermis_dice for row in rows),
        "failures": results.failures, "machine": machine(),
    }  # fmt: skip


def verdict(run: dict[str, Any]) -> str:
    """Say whether a run reached what is asked."""
    asked = {
        f"r {LEAST_R}": (run["r"] or 0) >= LEAST_R,
        f"dermis Dice {LEAST_DICE}": run["dermis_dice"] >= LEAST_DICE,
        f"{MOST_MINUTES} min": run["minutes"] <= MOST_MINUTES,
        "exit code 0": run["code"] == 0,
    }
    missed = [what for what, reached in asked.items() if not reached]
    return f"**NOT met**: {', '.join(missed)}" if missed else "met"


def row(run: dict[str, Any]) -> str:
    """Return a line of the table."""
    low, high = run["r_interval"] or (float("nan"),) * 2
    nerve = {int(k): value for k, value in run["nerve_dice"].items()}
    return (
        f"| {run['name']} | {run['images']} | {run['r'] or 0:.3f} ({low:.2f} to {high:.2f}) | "
        f"{run['error']:.2f} | {nerve[max(nerve)]:.3f} | {run['dermis_dice']:.3f} | "
        f"{run['minutes']:.0f} | {verdict(run)} | {run['machine']} |"
    )


def page(runs: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the result."""
    return [
        "# No option but the data", "",
        "`skinray train-cv --data COHORT`, planned by the recipe `auto`: five folds, and every "
        "image counted by networks that never saw it. Cohorts are drawn by `skinray phantom`, "
        "nerves on drawn skin or on real PAS-stained tissue (two sections of one specimen, whose "
        "windows may overlap). Asked: pooled r of at least "
        f"{LEAST_R}, dermis Dice of at least {LEAST_DICE}, within {MOST_MINUTES} minutes.", "",
        "| cohort | images | pooled r (95 %) | mean error, crossings | nerve Dice, k = 3 | "
        "dermis Dice | minutes | asked | machine |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row(run) for name in COHORTS for run in runs if run["name"] == name), "",
        *(f"{name}: not measured." for name in COHORTS if name not in {r["name"] for r in runs}),
        f"`python -m benchmarks.accuracy.own_images`, seed {SEED}. {versions('torch', 'ray')}.",
    ]  # fmt: skip


def main() -> None:
    """Run cohorts, add them to those run before, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = Path(os.environ.get("SKINRAY_REAL_DATA", REAL_DATA))
    parser.add_argument("--data", type=Path, default=home, help="folder of skin_pas_dej/")
    parser.add_argument("--cohort", action="append", metavar="NAME", help="beginning of a name")
    parser.add_argument("--keep", type=Path, help="folder to keep cohorts and runs in")
    options = parser.parse_args()
    runs = recorded("own_images")
    for name in (one for one in COHORTS if one.startswith(tuple(options.cohort or [""]))):
        with tempfile.TemporaryDirectory(prefix="own-images-") as scratch:
            folder = (
                options.keep / name.replace(" ", "-").replace("/", "-")
                if options.keep
                else Path(scratch)
            )
            run = measure(name, options.data / "skin_pas_dej", folder)
        runs = record("own_images", run, ["name"])
    write("own_images", page(runs))


if __name__ == "__main__":
    main()
