"""The verbs for labelled biopsies."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from skinray.cli.options import Out, Resume, Seed, Workers, continued, exit_if_failed, set_option
from skinray.config.base import changes_of, from_yaml, to_yaml
from skinray.config.biopsies import RunSettings
from skinray.errors import CohortError, SettingsError
from skinray.files import write_whole

Folds = Annotated[
    int | None,
    typer.Option(min=2, help="Number of folds you plan to use. Default: as `train-cv` plans."),
]
FoldUnit = Annotated[
    str | None,
    typer.Option(
        help="subject: all images of a subject share a fold; or image. Default: as `train-cv` "
        "plans; subject if --folds is given."
    ),
]
labels_app = typer.Typer(
    no_args_is_help=True, help="Labels saved on the service's page: merge them into a cohort."
)


def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; must be new or empty.")],
    images: Annotated[int, typer.Option(min=1, help="Number of biopsies to draw.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    size: Annotated[
        str, typer.Option(help="Width x height in pixels, for example 1600x1200.")
    ] = "1600x1200",
    tissue: Annotated[
        Path | None,
        typer.Option(help="Folder of real, labelled tissue tiles to draw the nerves on."),
    ] = None,
    subjects: Annotated[
        int | None, typer.Option(min=1, help="Number of subjects. Default: one per four images.")
    ] = None,
) -> None:
    """Draw a cohort of synthetic biopsies with known nerves, dermis and crossings.

    Writes images, labels, `manifest.csv` and a preview, `contact_sheet.png`. Example:

        skinray phantom --out cohort --images 40 --size 384x288
    """
    from skinray.images.phantoms.cohort import write_cohort
    from skinray.progress import bar

    with bar("Drawing biopsies", images) as tell:
        manifest = write_cohort(
            out, images, seed, parse_size(size), tissue, subjects=subjects, progress=tell
        )
    folder = manifest.parent
    typer.echo(f"Cohort: {folder}\nPreview: {folder / 'contact_sheet.png'}")


def check(
    data: Annotated[Path, typer.Option(help="Cohort folder with manifest.csv.")],
    folds: Folds = None,
    fold_unit: FoldUnit = None,
    pictures: Annotated[
        Path | None,
        typer.Option(help="New folder to draw every image with its labels in; see index.html."),
    ] = None,
) -> None:
    """Check a labelled cohort before training.

    Lists all problems at once, each with its row, file, reason and remedy. Then says what it
    understood of the cohort, to compare with what you know of it. No rule can find every wrong
    label, so look at the pictures once:

        skinray check --data cohort --pictures drawn
    """
    from skinray.config.base import validate
    from skinray.config.biopsies import FoldSettings
    from skinray.config.images import ReadSettings
    from skinray.images.cohort.check import CheckReport, checked_cohort, remarks
    from skinray.images.cohort.common_scale import common_scale
    from skinray.images.cohort.facts import measured_samples
    from skinray.learning.auto.labels import doubts, label_crossings
    from skinray.learning.auto.plan import folds_of
    from skinray.progress import bar

    given = {"count": folds, "unit": fold_unit}
    changes = {name: value for name, value in given.items() if value is not None}
    wanted = validate(FoldSettings, changes)
    if not changes:
        with suppress(CohortError):  # all that is wrong is listed below
            wanted = folds_of(data)
    report = CheckReport(label_crossings)
    if pictures is not None:
        from skinray.report.biopsies.label_sheet import draw_labels

        with bar("Drawing labels") as tell:
            page = draw_labels(data, pictures, ReadSettings(), tell)
        typer.echo(f"Labels as understood: {page}")
    with bar("Checking images") as tell:
        cohort = checked_cohort(data, ReadSettings(), wanted, progress=tell, report=report)
    doubt = doubts(measured_samples(cohort, common_scale(cohort.biopsies)), report.traces)
    if doubt:
        raise CohortError(f"{data}: {doubt}; if they are right, train with --anyway")
    typer.echo(f"{data}: no problems found in {len(cohort.biopsies)} images\n{report.text()}")
    for remark in (*remarks(cohort, wanted), *report.notes()):
        typer.echo(f"note: {remark}")


@labels_app.command("merge")
def labels_merge(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS_FOLDER", help="Folder given to `serve --labels`.")
    ],
    into: Annotated[Path, typer.Option(help="Cohort folder with manifest.csv.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the merged cohort to this new folder and leave --into as it is."),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Where both have the same image, take the label that is newer."
        ),
    ] = False,
    folds: Folds = None,
    fold_unit: FoldUnit = None,
) -> None:
    """Merge labels into a cohort, then check it as `skinray check` does.

    Corrections that a service saved become part of the cohort for the next training:

        skinray serve --bundle run/bundle --labels corrections

        skinray labels merge corrections --into cohort

        skinray train-cv --data cohort

    Images are recognised by their file or their pixels. A subject of the same name is the same
    subject, and gives its group to its new images. If anything does not fit, all of it is listed
    and nothing is written. No file is overwritten: new files get free names, and the former table
    is kept under the name that is printed (`manifest.csv.before`, then `-2` and so on); copy it
    over `manifest.csv` to undo the merge.
    """
    from skinray.images.cohort.merge import merge_labels
    from skinray.progress import bar

    with bar("Comparing images") as tell:
        merged = merge_labels(labels, into, out, take_newer=replace, progress=tell)
    typer.echo(merged.text())
    check(merged.folder, folds, fold_unit)


def train_cv(
    data: Annotated[
        Path | None,
        typer.Option(help="Cohort folder with manifest.csv. Default: draw a synthetic cohort."),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="auto: planned from your images and this machine (the default with --data); demo, "
            "paper, real-tissue; or a YAML file with all settings."
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(min=0.05, help="Budget of --recipe auto. Default: 0.5 on CPUs, 4 with a GPU."),
    ] = None,
    plan_only: Annotated[
        bool, typer.Option("--plan-only", help="Show the plan, store its settings, and stop.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Train even if the labels look wrong to --recipe auto.")
    ] = False,
    out: Out = None,
    resume: Resume = False,
    set_: Annotated[list[str] | None, set_option("seed=1 or folds.count=3")] = None,
    seed: Seed = None,
    workers: Workers = None,
    fold_unit: Annotated[
        str | None,
        typer.Option(help="subject (default): all images of a subject share a fold; or image."),
    ] = None,
) -> None:
    r"""Train and cross-validate the crossing counter on a labelled cohort, and bundle it.

    Searches the settings of each network, scores every image with networks that never saw it, and
    leaves `report.html`, `report.json` and `bundle/` in the run folder. If a network did not learn,
    the report says so first, and the exit code is 4.

    On one machine it starts Ray itself. To run on a cluster, submit it as a job:

        ray job submit -- skinray train-cv --data /shared/cohort --out /shared/run

    If it is interrupted, run the same command with --resume to continue.
    """
    from skinray.cli.run_folder import DEMO_IMAGES, demo_cohort, run_folder
    from skinray.config.recipes import recipe as named
    from skinray.learning.run_folder import SETTINGS
    from skinray.progress import bar

    recipe = recipe or ("demo" if data is None else "auto")
    changes = changes_of(set_, {"seed": seed, "cluster.workers": workers, "folds.unit": fold_unit})
    if recipe == "auto":
        settings = _planned(data, hours, out if resume else None, changes, anyway=anyway)
    elif hours is not None or plan_only or anyway:
        raise SettingsError(f"--hours, --plan-only and --anyway need --recipe auto, not {recipe}")
    else:
        settings = named(recipe).override(changes)
    out = run_folder(out, settings.recipe, resume=resume)
    if plan_only:
        out.mkdir(parents=True, exist_ok=True)
        typer.echo(f"Settings: {write_whole(out / SETTINGS, to_yaml(settings))}")
        return
    if data is None:
        with continued(out), bar("Drawing synthetic biopsies", DEMO_IMAGES) as tell:
            data = demo_cohort(out, tell)
    from skinray.cluster.train.biopsies import train_cv as run
    from skinray.report.biopsies.tables import tables_text

    with continued(out):
        results = run(data, out, settings, resume=resume)
    typer.echo(tables_text(results))
    typer.echo(f"Bundle: {out / 'bundle'}\nReport: {out / 'report.html'}")
    exit_if_failed(results.failures)


def _planned(
    data: Path | None,
    hours: float | None,
    resumed: Path | None,
    changes: dict[str, Any],
    *,
    anyway: bool,
) -> RunSettings:
    """Plan a run, or read the plan of the run that is resumed."""
    from skinray.learning.run_folder import SETTINGS

    if data is None:
        raise SettingsError("--recipe auto plans for your images: give their folder with --data")
    if resumed is not None and (resumed / SETTINGS).is_file():
        return from_yaml(RunSettings, resumed / SETTINGS).override(changes)
    from rich.console import Console
    from rich.table import Table

    from skinray.learning.auto.plan import plan_for

    plan = plan_for(data, hours, anyway=anyway)
    table = Table("", "plan", "why", title="Plan", title_justify="left")
    for line in plan.lines:
        table.add_row(line.what, line.value, line.reason)
    Console().print(table)
    return plan.settings.override(changes)


def pretrain_hed(
    data: Annotated[Path, typer.Option(help="BSDS500 folder with images/ and groundTruth/.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the weights; an interrupted run in it continues.")
    ],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
) -> None:
    """Pretrain HED on BSDS500, if you cannot get the published weights."""
    from skinray.config.training import PretrainSettings
    from skinray.learning.bsds import pretrain_hed as pretrain
    from skinray.progress import bar

    settings = PretrainSettings() if epochs is None else PretrainSettings(epochs=epochs)
    with bar("Pretraining HED", settings.epochs) as tell:
        weights = pretrain(data, out, settings, tell)
    typer.echo(f"Weights: {weights}\nUse with: --set nerve.main.model.weights={weights}")


def pretrain_phantoms(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.")],
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop each training after this many steps. Default: all steps."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")] = 0,
) -> None:
    """Make the starter again: small networks pretrained on drawn biopsies of many stains.

    Ray Data draws the biopsies while the networks train. The result is a bundle. It can count, and
    a training can start from its weights:

        skinray train-cv --data cohort --set nerve.main.model.weights=OUT/nerve.safetensors
    """
    from skinray.cluster.train.starter import pretrain_phantoms as pretrain

    typer.echo(f"Bundle: {pretrain(out, steps, seed)}")


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``; SettingsError for anything else."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise SettingsError(f"size '{text}': write WIDTHxHEIGHT in pixels, for example 1600x1200")
    return int(width), int(height)
