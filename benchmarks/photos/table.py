"""The paper's Table I on real photographs: U-Net, and the small pretrained network.

Run: ``python -m benchmarks.photos.table --home DIR --run DIR``. ``--home`` (by default
``SKINRAY_REAL_DATA``) holds ``hgr1_256`` to pretrain on and ``abd_skin``, each with ``images`` and
``masks``, and ``bsds500/images``, of which ``bsds500_without_people.txt`` lists those that skin is
pasted onto. The weights ``deeplabv3_mobilenet_v2_voc`` must be in the cache. ``--run`` is the run's
folder: what it already holds is not trained again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.measure import write
from skinray.cli import guarded
from skinray.cluster.train.photos import train_photos
from skinray.config.photos import PhotoSettings, photo_recipe
from skinray.errors import SettingsError
from skinray.models.weights.load import available
from skinray.report.photos.rows import PhotoRow
from skinray.report.photos.table import PhotoResults, table_text

# With the epochs of each that two cores have time for.
NETWORKS = {"skin_unet": 250, "skin_mobilenet": 80}
WEIGHTS = "deeplabv3_mobilenet_v2_voc"
ASKED = 0.90
LISTED = Path(__file__).with_name("bsds500_without_people.txt")


def main() -> None:
    """Train, test, print and write ``results/photo_table.md``, or a file named by the networks."""
    options = arguments()
    if "skin_mobilenet" in options.network and not available(WEIGHTS):
        raise SettingsError(f"bring the weights in first: `skinray weights fetch {WEIGHTS}`")
    with tempfile.TemporaryDirectory() as folder:
        results = train_photos(
            options.home / "abd_skin", [options.home / "hgr1_256"], options.run,
            settings(options),
            backgrounds=[without_people(options.home / "bsds500" / "images", Path(folder))],
            resume=options.run.exists(),
        )  # fmt: skip
    chosen = [] if options.network == list(NETWORKS) else options.network
    write("_".join(["photo_table", *chosen]), lines(results))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__)
    home = os.environ.get("SKINRAY_REAL_DATA")
    parser.add_argument("--home", type=Path, default=Path(home) if home else None)
    parser.add_argument("--run", type=Path, default=Path("runs/photo-table"), help="run folder")
    parser.add_argument("--precision", default="auto", help="bfloat16 on a CPU that computes in it")
    parser.add_argument("--network", action="append", choices=list(NETWORKS), help="only this one")
    parser.add_argument("--epochs", type=int, help="of training each network, instead of its own")
    parser.add_argument("--pretraining-epochs", type=int, default=20)
    parser.add_argument("--members", type=int, default=3, help="fine-tunings of each network")
    options = parser.parse_args(argv)
    options.network = options.network or list(NETWORKS)
    if options.home is None:
        raise SettingsError("name a folder with hgr1_256/, abd_skin/ and bsds500/ as --home")
    return options


def without_people(images: Path, folder: Path) -> Path:
    """Gather the photographs of BSDS500 that show no people in a folder below ``folder``."""
    gathered = folder / "bsds500"
    gathered.mkdir()
    for name in LISTED.read_text(encoding="utf-8").split():
        (gathered / Path(name).name).symlink_to((images / name).absolute())
    return gathered


def settings(options: argparse.Namespace) -> PhotoSettings:
    """Return the recipe ``varied`` with the epochs that two cores have time for."""
    changes: dict[str, object] = {
        "pretraining_epochs": options.pretraining_epochs,
        "test_images": 200,
        "flips": True,
        "members": options.members,
        "cluster.cpus_per_worker": 2,
    }
    for at, name in enumerate(options.network):
        changes[f"networks.{at}.train.epochs"] = options.epochs or NETWORKS[name]
        changes[f"networks.{at}.train.precision"] = options.precision
        if name == "skin_unet":
            changes[f"networks.{at}.train.validate_every_epochs"] = 5
    return photo_recipe("varied").only(options.network).override(changes)


def lines(results: PhotoResults) -> list[str]:
    """Return the result as Markdown."""
    title, *table = table_text(results).splitlines()
    told = [
        title,
        "",
        f"Torsos of abd_skin ({results.test_images} to test on), pretrained on hands; "
        f"photographs without people, of BSDS500, among what skin is put before. The recipe "
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
    marked = [photo.jaccard for photo in row.photos if photo.skin]
    over = ""
    if len(marked) < len(row.photos):
        over = f" ({fmean(marked):.3f} over the {len(marked)} with skin marked)"
    transferred = next(
        one.summary.jaccard.value
        for one in rows
        if (one.network, one.scenario, one.flips) == (row.network, "direct transfer", row.flips)
    )
    better = "better" if tuned > transferred else "NOT better"
    met = "met" if tuned >= ASKED else "NOT met"
    return (
        f"- {row.label}: fine-tuning {tuned:.3f}{over} against {transferred:.3f} of direct "
        f"transfer ({better}); at least {ASKED:.2f} asked after fine-tuning: {met}."
    )


if __name__ == "__main__":
    guarded(main)
