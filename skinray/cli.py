"""The command line: ``skinray VERB``, in the order of the pipeline.

Each verb imports what it needs when it is called, so ``skinray --help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from skinray import __version__
from skinray.cli_photos import train_photos
from skinray.errors import SettingsError, SkinrayError
from skinray.logs import logged_run
from skinray.settings import parse_assignment

app = typer.Typer(
    name="skinray",
    help="Count nerve fibres that cross the dermal-epidermal boundary in skin biopsies.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
weights_app = typer.Typer(
    no_args_is_help=True, help="Published pretrained weights: list, fetch, import."
)
app.add_typer(weights_app, name="weights")

# What typer exits with after Ctrl-C.
INTERRUPTED = 130
# A write that fails for want of room does not say to which file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# What `score` exits with if more images failed than it was told to bear.
TOO_MANY_FAILED = 3

Size = Annotated[str, typer.Option(help="Width x height in pixels, for example 1600x1200.")]


def main() -> None:
    """Run the command line; a user's error is one message and exit code 1 (2: bad usage)."""
    guarded(app)


def guarded(call: Any) -> None:
    """Call a command; print what a user can mend as a message instead of a trace."""
    try:
        with logged_run():
            call()
    except SkinrayError as error:
        _complain(str(error))
    except OSError as error:
        if error.errno in NO_ROOM:
            _complain(
                f"no room left on the disk ({error}): free some, then go on with --resume and the "
                "same --out"
            )
        if error.filename is None:
            raise
        _complain(
            f"{error.filename}: {error.strerror}; check the path, its rights and the disk's space"
        )
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo(
                "stopped; a run of train-cv, train-photos or score goes on with --resume and its "
                "--out",
                err=True,
            )
        raise


def _complain(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    sys.exit(1)


def run_job(command: Any) -> None:
    """Run one command as a script of its own, for ``ray job submit -- python jobs/NAME.py``."""
    job = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)
    job.command()(command)
    guarded(job)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"skinray {__version__}")
        raise typer.Exit


@app.command()
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
    from skinray.images.phantom_cohort import write_cohort
    from skinray.progress import bar

    with bar("Drawing biopsies", images) as tell:
        manifest = write_cohort(
            out, images, seed, parse_size(size), tissue, subjects=subjects, progress=tell
        )
    folder = manifest.parent
    typer.echo(f"Cohort: {folder}\nLook at: {folder / 'contact_sheet.png'}")


@app.command()
def check(
    data: Annotated[Path, typer.Option(help="Cohort folder with manifest.csv.")],
    folds: Annotated[int, typer.Option(min=2, help="Folds the cohort is meant for.")] = 5,
    fold_unit: Annotated[str, typer.Option(help="What stays together: subject or image.")] = (
        "subject"
    ),
) -> None:
    """Validate a labelled cohort and say every problem at once: row, file, reason, remedy."""
    from skinray.config import FoldSettings, ReadSettings
    from skinray.images.cohort_check import checked_cohort, remarks
    from skinray.progress import bar
    from skinray.settings import validate

    wanted = validate(FoldSettings, {"count": folds, "unit": fold_unit})
    with bar("Checking images") as tell:
        cohort = checked_cohort(data, ReadSettings(), wanted, progress=tell)
    typer.echo(f"{data}: no problem found in {len(cohort.biopsies)} images")
    for remark in remarks(cohort, wanted):
        typer.echo(f"note: {remark}")


@app.command()
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
        int | None, typer.Option(min=1, help="Workers that train one network together.")
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
    from skinray.learning.run_folder import refuse_foreign
    from skinray.progress import bar
    from skinray.recipes import recipe as named
    from skinray.run_paths import DEMO_IMAGES, default_out, demo_cohort

    changes = dict(parse_assignment(text) for text in set_ or [])
    if seed is not None:
        changes["seed"] = seed
    if workers is not None:
        changes["cluster.workers"] = workers
    if fold_unit is not None:
        changes["folds.unit"] = fold_unit
    settings = named(recipe).override(changes)
    if resume and out is None:
        raise SettingsError("--resume goes on with the run in --out: name its folder there")
    out = (out or default_out(settings.recipe)).absolute()
    refuse_foreign(out, resume=resume)
    if data is None:
        with bar("Drawing synthetic biopsies", DEMO_IMAGES) as tell:
            data = demo_cohort(out, tell)
    from skinray.cluster.crossval import train_cv as run
    from skinray.report.tables import tables_text

    results = run(data, out, settings, resume=resume)
    typer.echo(tables_text(results))
    typer.echo(f"Bundle: {out / 'bundle'}")
    typer.echo(f"Report: {out / 'report.html'}")


app.command()(train_photos)


@app.command()
def score(
    bundle: Annotated[Path, typer.Option(help="Bundle folder that a training wrote.")],
    images: Annotated[
        str,
        typer.Option(
            help="Folder, glob in quotes, manifest.csv, or an address such as s3://bucket/folder."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Run folder, seen by every node, or an address such as s3://bucket/run; new or "
            "empty."
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the interrupted run in --out.")
    ] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Exit with code 3 if more images than this fail; default: only if all of them do.",
        ),
    ] = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(help="Micrometres a pixel of every image; overrides manifest and files."),
    ] = None,
    no_overlays: Annotated[
        bool, typer.Option("--no-overlays", help="Write no pictures, GeoJSON or masks.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, e.g. layout=separate or fused.actors=4; repeatable."
        ),
    ] = None,
) -> None:
    r"""Score every image of a cohort; each image has one row, failed or not.

    A bundle for biopsies counts the crossings, one for photographs finds the skin.

    It can be killed at any moment; the same command with --resume goes on and loses nothing. On a
    cluster, submit it as a job:

        ray job submit --working-dir . -- \
          python jobs/score_cohort.py --bundle /shared/bundle --images /shared/in --out /shared/x

    Leaves `report.html` and `overlays/` in the run folder; of biopsies `counts.csv`,
    `counts.parquet`, `crossings.parquet` and `geojson/`, of photographs `areas.csv`,
    `areas.parquet` and `masks/`.
    """
    from skinray.config import ScoreSettings
    from skinray.settings import validate

    changes = dict(parse_assignment(text) for text in set_ or [])
    changes = {path.removeprefix("score."): value for path, value in changes.items()}
    chosen: dict[str, Any] = {"um_per_px": um_per_px} | ({"overlays": False} if no_overlays else {})
    settings = validate(ScoreSettings, chosen, "options").override(changes)
    from skinray.cluster.score import score as run
    from skinray.images.store import without_password

    began = time.monotonic()
    totals = run(bundle, images, out, settings, resume=resume)
    typer.echo(totals.text(time.monotonic() - began))
    where = without_password(out)
    typer.echo(f"Table: {where}/{totals.table}\nReport: {where}/report.html")
    if totals.too_many_failed(max_failures):
        raise typer.Exit(TOO_MANY_FAILED)


@app.command()
def serve(
    bundle: Annotated[Path, typer.Option(help="Bundle folder that a training wrote.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    host: Annotated[
        str,
        typer.Option(help="Address to listen at; 0.0.0.0: every network, without encryption."),
    ] = "127.0.0.1",
    layout: Annotated[
        str, typer.Option(help="fused: one process; separate: one for each stage.")
    ] = "fused",
    labels: Annotated[
        Path | None, typer.Option(help="Cohort folder that corrections are stored in.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            envvar="SKINRAY_TOKENS_FILE",
            help="File with one token a line; default: one made for you and kept.",
        ),
    ] = None,
    without_tokens: Annotated[
        bool,
        typer.Option("--without-tokens", help="Let in every user of this machine; loopback only."),
    ] = False,
) -> None:
    """Answer over HTTP on this machine: a page at `/`, the interface at `/docs`.

    Every request must show a token; the page asks for it once, or takes it from the address that
    is printed. Ctrl-C ends it, after the images in work.

    On a cluster: `serve deploy serve_configs/gpu.yaml`.
    """
    from skinray.config import ServeSettings
    from skinray.service.access import choose_access
    from skinray.settings import validate

    values: dict[str, Any] = {"bundle": str(bundle.absolute()), "layout": layout}
    access = choose_access(host, tokens, without_tokens)
    values["service"] = access.settings()
    if labels is not None:
        values["service"]["labels"] = str(labels.absolute())
    settings = validate(ServeSettings, values)
    from skinray.cluster.serve_local import serve_bundle

    def ready(address: str) -> None:
        typer.echo(access.words(address, to_person=sys.stdout.isatty()))

    serve_bundle(settings, host, port, ready)


@app.command()
def report(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="Folder or address of a finished run.")
    ],
) -> None:
    """Render a run's report again from its stored results: of a training or of a scored cohort."""
    from skinray.images.store import is_address
    from skinray.report.cohort_page import render_again, write_cohort_report
    from skinray.report.cohort_run import is_scoring_run
    from skinray.report.page import write_report
    from skinray.report.photo_run import is_photo_run

    if is_address(run_dir):
        typer.echo(f"Report: {render_again(run_dir)}")
        return
    folder = Path(run_dir)
    if is_photo_run(folder):
        from skinray.report.photo_page import write_photo_report

        page = write_photo_report(folder)
    else:
        page = write_cohort_report(folder) if is_scoring_run(folder) else write_report(folder)
    typer.echo(f"Report: {page.absolute()}")


@app.command()
def doctor(
    runs: Annotated[Path, typer.Option(help="Folder that runs are to be written to.")] = Path(),
) -> None:
    """Say what is wrong with this machine and how to mend it; exit code 1 if anything must be."""
    from rich.console import Console

    from skinray.cluster.doctor import examine, failed
    from skinray.cluster.doctor_table import table

    findings = examine(runs.absolute())
    Console().print(table(findings))
    if failed(findings):
        raise typer.Exit(1)


@app.command()
def pretrain_hed(
    data: Annotated[Path, typer.Option(help="BSDS500 folder with images/ and groundTruth/.")],
    out: Annotated[Path, typer.Option(help="Folder for the weights; continues what it finds.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images.")] = None,
) -> None:
    """Pretrain HED on BSDS500, where the published weights cannot be had."""
    from skinray.config import PretrainSettings
    from skinray.learning.bsds import pretrain_hed as pretrain
    from skinray.progress import bar

    settings = PretrainSettings() if epochs is None else PretrainSettings(epochs=epochs)
    with bar("Pretraining HED", settings.epochs) as tell:
        weights = pretrain(data, out, settings, tell)
    typer.echo(f"Weights: {weights}\nUse with: --set nerve.main.model.weights={weights}")


@weights_app.command("list")
def weights_list() -> None:
    """List the published weights, where they come from, and whether they are at hand."""
    from skinray.models.weights import rows

    # Lines, not a table: names and addresses are there to be copied.
    for row in rows():
        typer.echo(f"{row['name']} ({row['model']}; in cache: {row['in cache']})")
        for key in ("trained on", "address", "licence", "sha256"):
            typer.echo(f"    {key}: {row[key]}")


@weights_app.command("fetch")
def weights_fetch(name: Annotated[str, typer.Argument(help="Name from `weights list`.")]) -> None:
    """Download weights, check them, and store them as safetensors."""
    from skinray.models.weights import fetch
    from skinray.progress import bar

    with bar(f"Fetching {name}", None) as tell:
        typer.echo(f"Stored: {fetch(name, tell)}")


@weights_app.command("import")
def weights_import(
    name: Annotated[str, typer.Argument(help="Name from `weights list`.")],
    file: Annotated[Path, typer.Argument(help="The published file, downloaded elsewhere.")],
) -> None:
    """Take in a weights file that was downloaded elsewhere; nothing in it is executed."""
    from skinray.models.weights import import_file

    typer.echo(f"Stored: {import_file(name, file)}")


def parse_size(text: str) -> tuple[int, int]:
    """Read ``WIDTHxHEIGHT``; SettingsError if it is not that."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) > 0 and int(height) > 0):
        raise SettingsError(f"size '{text}': write WIDTHxHEIGHT in pixels, for example 1600x1200")
    return int(width), int(height)
