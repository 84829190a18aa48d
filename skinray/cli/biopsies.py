"""The verbs on labelled biopsies; :mod:`skinray.cli` lists them among the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinray.config.base import changes_of
from skinray.errors import SettingsError

Size = Annotated[str, typer.Option(help="Width x height in pixels, for example 1600x1200.")]


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    images: Annotated[int, typer.Option(min=1, help="How many biopsies to draw.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pixels.")] = 0,
    size: Size = "1600x1200",
    tissue: Annotated[
        Path | None,
        typer.Option(help="Folder of real tissue tiles with labels; nerves are drawn on them."),
    ] = None,
    subjects: Annotated[
        int | None, typer.Option(min=1, help="How many subjects; default: one per four images.")
    ] = None,
) -> None:
    """Draw a cohort of synthetic biopsies with known nerves, dermis and crossings.

    Writes images, labels, `manifest.csv` and `contact_sheet.png`. Example:

        skinray phantom --out cohort --images 40 --size 384x288
    """
    from skinray.images.phantoms.cohort import write_cohort
    from skinray.progress import bar

    with bar("Drawing biopsies", images) as tell:
        manifest = write_cohort(
            out, images, seed, parse_size(size), tissue, subjects=subjects, progress=tell
        )
    folder = manifest.parent
    typer.echo(f"Cohort: {folder}\nLook at: {folder / 'contact_sheet.png'}")


def check(
    data: Annotated[Path, typer.Option(help="Cohort folder with manifest.csv.")],
    folds: Annotated[int, typer.Option(min=2, help="Folds the cohort is meant for.")] = 5,
    fold_unit: Annotated[str, typer.Option(help="What stays together: subject or image.")] = (
        "subject"
    ),
) -> None:
    """Validate a labelled cohort and say every problem at once: row, file, reason, remedy."""
    from skinray.config.base import validate
    from skinray.config.biopsies import FoldSettings
    from skinray.config.images import ReadSettings
    from skinray.images.cohort.check import checked_cohort, remarks
    from skinray.progress import bar

    wanted = validate(FoldSettings, {"count": folds, "unit": fold_unit})
    with bar("Checking images") as tell:
        cohort = checked_cohort(data, ReadSettings(), wanted, progress=tell)
    typer.echo(f"{data}: no problem found in {len(cohort.biopsies)} images")
    for remark in remarks(cohort, wanted):
        typer.echo(f"note: {remark}")


def train_cv(
    data: Annotated[
        Path | None,
        typer.Option(help="Cohort folder with manifest.csv; none: a synthetic cohort is drawn."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="demo, paper, real-tissue, or a YAML file of all settings.")
    ] = "demo",
    out: Annotated[
        Path | None, typer.Option(help="Run folder, seen by every node; default: runs/NAME-TIME.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the interrupted run in --out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, e.g. seed=1 or folds.count=3. May be repeated."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the run.")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            help="Workers that train one network together: 4, or 2,8 for as many of 2 to 8 as the "
            "cluster has."
        ),
    ] = None,
    fold_unit: Annotated[
        str | None, typer.Option(help="Folds of whole subjects (default) or of images.")
    ] = None,
) -> None:
    r"""Tune, cross-validate and bundle the crossing counter on a labelled cohort.

    On one machine it starts its own Ray. On a cluster, submit it as a job:

        ray job submit --working-dir . -- \
          python jobs/train_cv.py --data /shared/cohort --out /shared/run

    Leaves `report.html`, `report.json` and `bundle/` in the run folder.
    """
    from skinray.cli.run_folder import DEMO_IMAGES, demo_cohort, run_folder
    from skinray.config.recipes import recipe as named
    from skinray.progress import bar

    options = {"seed": seed, "cluster.workers": workers, "folds.unit": fold_unit}
    settings = named(recipe).override(changes_of(set_, options))
    out = run_folder(out, settings.recipe, resume=resume)
    if data is None:
        with bar("Drawing synthetic biopsies", DEMO_IMAGES) as tell:
            data = demo_cohort(out, tell)
    from skinray.cluster.train.biopsies import train_cv as run
    from skinray.report.biopsies.tables import tables_text

    results = run(data, out, settings, resume=resume)
    typer.echo(tables_text(results))
    typer.echo(f"Bundle: {out / 'bundle'}")
    typer.echo(f"Report: {out / 'report.html'}")


def pretrain_hed(
    data: Annotated[Path, typer.Option(help="BSDS500 folder with images/ and groundTruth/.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights; continues what it finds.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
) -> None:
    """Pretrain HED on BSDS500, where the published weights cannot be had."""
    from skinray.config.training import PretrainSettings
    from skinray.learning.bsds import pretrain_hed as pretrain
    from skinray.progress import bar

    settings = PretrainSettings() if epochs is None else PretrainSettings(epochs=epochs)
    with bar("Pretraining HED", settings.epochs) as tell:
        weights = pretrain(data, out, settings, tell)
    typer.echo(f"Weights: {weights}\nUse with: --set nerve.main.model.weights={weights}")


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``; SettingsError if it is not that."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise SettingsError(f"size '{text}': write WIDTHxHEIGHT in pixels, for example 1600x1200")
    return int(width), int(height)
