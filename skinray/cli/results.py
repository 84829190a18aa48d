"""The verbs that use a bundle, or show what came of it; :mod:`skinray.cli` lists them."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from skinray.config.base import parse_assignment

# What `score` exits with if more images failed than it was told to bear.
TOO_MANY_FAILED = 3


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
    from skinray.config.base import validate
    from skinray.config.scoring import ScoreSettings

    changes = dict(parse_assignment(text) for text in set_ or [])
    changes = {path.removeprefix("score."): value for path, value in changes.items()}
    chosen: dict[str, Any] = {"um_per_px": um_per_px} | ({"overlays": False} if no_overlays else {})
    settings = validate(ScoreSettings, chosen, "options").override(changes)
    from skinray.cluster.score.run import score as run
    from skinray.scoring.image_store import without_password

    began = time.monotonic()
    totals = run(bundle, images, out, settings, resume=resume)
    typer.echo(totals.text(time.monotonic() - began))
    where = without_password(out)
    typer.echo(f"Table: {where}/{totals.table}\nReport: {where}/report.html")
    if totals.too_many_failed(max_failures):
        raise typer.Exit(TOO_MANY_FAILED)


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
    from skinray.config.base import validate
    from skinray.config.scoring import ServeSettings
    from skinray.service.middleware.tokens import choose_access

    values: dict[str, Any] = {"bundle": str(bundle.absolute()), "layout": layout}
    access = choose_access(host, tokens, without_tokens)
    values["service"] = access.settings()
    if labels is not None:
        values["service"]["labels"] = str(labels.absolute())
    settings = validate(ServeSettings, values)
    from skinray.cluster.serve.local import serve_bundle

    def ready(address: str) -> None:
        typer.echo(access.words(address, to_person=sys.stdout.isatty()))

    serve_bundle(settings, host, port, ready)


def report(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="Folder or address of a finished run.")
    ],
) -> None:
    """Render a run's report again from its stored results: of a training or of a scored cohort."""
    from skinray.report.biopsies.page import write_report
    from skinray.report.cohorts.page import render_again, write_cohort_report
    from skinray.report.cohorts.run import is_scoring_run
    from skinray.report.photos.csv_files import is_photo_run
    from skinray.scoring.image_store import is_address

    if is_address(run_dir):
        typer.echo(f"Report: {render_again(run_dir)}")
        return
    folder = Path(run_dir)
    if is_photo_run(folder):
        from skinray.report.photos.page import write_photo_report

        page = write_photo_report(folder)
    else:
        page = write_cohort_report(folder) if is_scoring_run(folder) else write_report(folder)
    typer.echo(f"Report: {page.absolute()}")
