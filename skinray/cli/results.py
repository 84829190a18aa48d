"""The verbs that use a bundle or show a run's results."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from skinray.cli.options import Anyway, UsedBundle, continued, plain_number, set_option
from skinray.config.base import parse_assignment
from skinray.errors import SettingsError
from skinray.logs import LOG, one_stream

PACKAGE = Path(__file__).parents[1]
# Exit code of `score` if more images failed than --max-failures allows.
TOO_MANY_FAILED = 3


def score(
    images: Annotated[
        str,
        typer.Option(
            help="A folder, a quoted glob, a manifest.csv, or an address such as s3://bucket/folder."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="New or empty run folder, or an address such as s3://bucket/run; on a cluster "
            "every node must see it."
        ),
    ],
    bundle: UsedBundle = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the interrupted run in --out.")
    ] = False,
    max_failures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Exit with code 3 if more images than this fail. Default: only if all fail.",
        ),
    ] = None,
    um_per_px: Annotated[
        float | None,
        typer.Option(
            parser=plain_number,
            metavar="NUMBER",
            help="Micrometres per pixel of all images; overrides manifest and files.",
        ),
    ] = None,
    no_overlays: Annotated[
        bool, typer.Option("--no-overlays", help="Do not write overlays, GeoJSON or masks.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Compute in float32 as in training. Default: as fast as this machine can, if "
            "counts on the first images agree.",
        ),
    ] = False,
    anyway: Anyway = False,
    set_: Annotated[list[str] | None, set_option("layout=separate or fused.actors=4")] = None,
) -> None:
    r"""Score every image of a cohort. Each image gets one row, even if it fails.

    A bundle for biopsies counts crossings; a bundle for photographs finds the skin.

    If the run is interrupted, repeat the command with --resume: it continues and loses nothing. To
    run on a cluster, submit it as a job:

        ray job submit -- \
          skinray score --bundle /shared/bundle --images /shared/in --out /shared/scored

    Writes `report.html` and `overlays/` to the run folder; for biopsies also `counts.csv`,
    `counts.parquet`, `crossings.parquet` and `geojson/`, for photographs `areas.csv`,
    `areas.parquet` and `masks/`.
    """
    from skinray.config.base import validate
    from skinray.config.scoring import ScoreSettings

    changes = dict(parse_assignment(text) for text in set_ or [])
    changes = {path.removeprefix("score."): value for path, value in changes.items()}
    chosen: dict[str, Any] = {"um_per_px": um_per_px, "anyway": anyway, "overlays": not no_overlays}
    chosen |= {"backend": "eager"} if exact else {}
    settings = validate(ScoreSettings, chosen, "options").override(changes)
    from skinray.cluster.score.run import score as run
    from skinray.files import STARTER
    from skinray.scoring.object_store import without_password

    began = time.monotonic()
    with continued(out):
        totals = run(bundle or STARTER, images, out, settings, resume=resume)
    typer.echo(totals.text(time.monotonic() - began))
    where = without_password(out)
    typer.echo(f"Table: {where}/{totals.table}\nReport: {where}/report.html")
    if totals.too_many_failed(max_failures):
        typer.echo(f"error: {totals.why_too_many(max_failures)}", err=True)
        raise typer.Exit(TOO_MANY_FAILED)


def serve(
    bundle: UsedBundle = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. 0.0.0.0: all networks, without encryption."),
    ] = "127.0.0.1",
    layout: Annotated[
        str, typer.Option(help="fused: one process for all stages. separate: one per stage.")
    ] = "fused",
    labels: Annotated[
        Path | None, typer.Option(help="Cohort folder to store corrected labels in.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            envvar="SKINRAY_TOKENS_FILE",
            help="File with one token per line. Default: a token is made for you and kept.",
        ),
    ] = None,
    without_tokens: Annotated[
        bool,
        typer.Option(
            "--without-tokens", help="Let every user of this machine in; only on loopback."
        ),
    ] = False,
    anyway: Anyway = False,
) -> None:
    """Start the HTTP service on this machine: a web page at `/`, its API at `/docs`.

    Every request needs a token. The web page asks for it once, or takes it from the address that
    this command prints. Ctrl-C or SIGTERM stops the service once the requests in progress are
    answered, a second one at once.

    To run on a cluster: `skinray serve-config gpu > gpu.yaml`, edit it, `serve deploy gpu.yaml`.
    """
    from skinray.config.base import validate
    from skinray.config.scoring import ServeSettings
    from skinray.files import STARTER
    from skinray.service.middleware.tokens import choose_access

    folder = (bundle or STARTER).absolute()
    values: dict[str, Any] = {"bundle": str(folder), "layout": layout, "anyway": anyway}
    access = choose_access(host, tokens, without_tokens)
    values["service"] = {**access.settings(), "hosts": [host]}
    if labels is not None:
        values["service"]["labels"] = str(labels.absolute())
    settings = validate(ServeSettings, values)
    from skinray.cluster.serve.local import serve_bundle

    with one_stream() as joined:

        def ready(address: str) -> None:
            person = sys.stdout.isatty()
            if joined:
                LOG.info(access.words(address, to_person=False))
            if person or not joined:
                typer.echo(access.words(address, to_person=person))

        serve_bundle(settings, host, port, ready)


def serve_config(
    name: Annotated[
        str,
        typer.Argument(
            help="gpu: a cluster with GPUs. local: one machine without. photos: a cluster, for "
            "photographs."
        ),
    ],
) -> None:
    r"""Print a file for Ray Serve, to start the service on a cluster.

    Edit the paths of the bundle and the tokens in it, and its replicas:

        skinray serve-config gpu > gpu.yaml

        serve deploy gpu.yaml
    """
    # In the wheel they are inside the package, in the repository beside it.
    places = (PACKAGE / "serve_configs", PACKAGE.parent / "serve_configs")
    folder = next(place for place in places if place.is_dir())
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise SettingsError(f"no serve config is called '{name}': use one of {', '.join(known)}")
    typer.echo((folder / f"{name}.yaml").read_text(encoding="utf-8"), nl=False)


def report(
    run_dir: Annotated[
        str, typer.Argument(metavar="RUN_DIR", help="Folder or address of a finished run.")
    ],
) -> None:
    """Write the report of a training run or a scored cohort again, from its stored results."""
    from skinray.report.biopsies.page import write_report
    from skinray.report.cohorts.page import render_again, write_cohort_report
    from skinray.report.cohorts.run import is_scoring_run
    from skinray.report.photos.csv_files import is_photo_run
    from skinray.scoring.object_store import is_address

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
