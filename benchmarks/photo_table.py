"""The paper's Table I on real photographs: U-Net, and the small network that has seen people.

Run: ``python benchmarks/photo_table.py --home DIR --run DIR``. ``--home`` (by default
``SKINRAY_REAL_DATA``) holds ``hgr1_256`` to pretrain on and ``abd_skin``, each with ``images`` and
``masks``; weights ``deeplabv3_mobilenet_v2_voc`` have to be in the cache. ``--run`` is the run's
folder: what it holds already is not trained again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from measure import write

from skinray.cli import guarded
from skinray.cluster.photos import train_photos
from skinray.errors import SettingsError
from skinray.models.weights import available
from skinray.photo_config import PhotoSettings, photo_recipe
from skinray.report.photo_table import PhotoResults, PhotoRow, table_text

NETWORKS = ("skin_unet", "skin_mobilenet")
WEIGHTS = "deeplabv3_mobilenet_v2_voc"
ASKED = 0.90


def main() -> None:
    """Train, test, print and write ``results/photo_table.md``."""
    options = arguments()
    if not available(WEIGHTS):
        raise SettingsError(f"bring the weights in first: `skinray weights fetch {WEIGHTS}`")
    results = train_photos(
        options.home / "abd_skin", [options.home / "hgr1_256"], options.run,
        settings(options.precision),
        resume=options.run.exists(),
    )  # fmt: skip
    write("photo_table", lines(results))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = os.environ.get("SKINRAY_REAL_DATA")
    parser.add_argument("--home", type=Path, default=Path(home) if home else None)
    parser.add_argument("--run", type=Path, default=Path("runs/photo-table"), help="run folder")
    parser.add_argument("--precision", default="auto", help="bfloat16 on a CPU that computes in it")
    options = parser.parse_args(argv)
    if options.home is None:
        raise SettingsError("name a folder with hgr1_256/ and abd_skin/ as --home")
    return options


def settings(precision: str = "auto") -> PhotoSettings:
    """Return the recipe ``varied`` with the epochs that two cores have time for."""
    return (
        photo_recipe("varied")
        .only(list(NETWORKS))
        .override(
            {
                "pretraining_epochs": 20,
                "networks.0.train.epochs": 250,
                "networks.1.train.epochs": 80,
                "networks.0.train.validate_every_epochs": 5,
                "networks.0.train.precision": precision,
                "networks.1.train.precision": precision,
                "test_images": 200,
                "flips": True,
                "members": 3,
                "cluster.cpus_per_worker": 2,
            }
        )
    )


def lines(results: PhotoResults) -> list[str]:
    """Return the result as Markdown."""
    title, *table = table_text(results).splitlines()
    told = [
        title,
        "",
        f"Torsos ({results.test_images} to test on), pretrained on hands. The recipe "
        f"{results.settings['recipe']}; epochs are fewer than the paper's 500, and as the table "
        f"says; trained in {results.settings['networks'][0]['train']['precision']} precision.",
        "",
        f"Machine: {results.hardware}; begun {results.started[:10]}; "
        f"{', '.join(f'{name} {version}' for name, version in results.versions.items())}; the last "
        f"call took {results.seconds / 60:.0f} min.",
        *table,
        "",
    ]
    for row in results.rows:
        if row.scenario == "fine-tuning":
            told.append(_met(row, results.rows))
    return told


def _met(row: PhotoRow, rows: list[PhotoRow]) -> str:
    """Compare a row of fine-tuning with what was asked, and with the network's direct transfer."""
    tuned = row.summary.jaccard.value
    transferred = next(
        one.summary.jaccard.value
        for one in rows
        if (one.network, one.scenario, one.flips) == (row.network, "direct transfer", row.flips)
    )
    return (
        f"- {row.label}: fine-tuning {tuned:.3f} against {transferred:.3f} of direct transfer "
        f"({'better' if tuned > transferred else 'NOT better'}); at least {ASKED:.2f} asked "
        f"after fine-tuning: {'met' if tuned >= ASKED else 'NOT met'}."
    )


if __name__ == "__main__":
    guarded(main)
