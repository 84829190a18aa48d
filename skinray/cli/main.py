"""The command line: ``skinray VERB``, in the order of the pipeline.

Each verb imports what it needs when it is called, so ``skinray --help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from skinray import __version__
from skinray.cli.biopsies import (
    check,
    labels_app,
    phantom,
    pretrain_hed,
    pretrain_phantoms,
    train_cv,
)
from skinray.cli.count import count
from skinray.cli.options import NOT_LEARNED
from skinray.cli.photos import train_photos
from skinray.cli.results import report, score, serve, serve_config
from skinray.cli.weights import weights_app
from skinray.errors import NotLearnedError, SkinrayError
from skinray.logs import complain, logged_run

app = typer.Typer(
    name="skinray",
    help="Count the nerve fibres that cross the dermal-epidermal boundary in skin biopsies, and "
    "find the skin in clinical photographs.\n\nTrain on labelled images, then use the trained "
    "bundle to score a cohort or to answer over HTTP. To try it without data, run "
    "`skinray train-cv`. `skinray VERB --help` explains each verb.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

# Errors of a full disk, which do not name the file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main() -> None:
    """Run the command line; an error that a user can fix is one message and exit code 1.

    Bad usage is exit code 2; a network that did not learn, 4.
    """
    guarded(app)


def guarded(call: Any) -> None:
    """Call a command; print errors that a user can fix as a message instead of a traceback."""
    try:
        with logged_run():
            call()
    except NotLearnedError as error:
        _complain(str(error), NOT_LEARNED)
    except SkinrayError as error:
        _complain(str(error))
    except OSError as error:
        if error.errno in NO_ROOM:
            _complain(
                f"no space left on the disk ({error}): free some space, then continue with "
                "--resume and the same --out"
            )
        if error.filename is None:
            raise
        _complain(
            f"{error.filename}: {error.strerror}; check the path, the permissions and the disk"
        )


def _complain(message: str, code: int = 1) -> NoReturn:
    if not complain(f"error: {message}"):
        typer.echo(f"error: {message}", err=True)
    sys.exit(code)


def run_job(command: Any) -> None:
    """Run one command as a script: each file in ``jobs/`` does it."""
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


def doctor(
    runs: Annotated[Path, typer.Option(help="Folder you plan to write runs to.")] = Path(),
) -> None:
    """Check this machine and say how to fix what is wrong.

    Exit code 1: something must be fixed first.
    """
    from rich.console import Console

    from skinray.cluster.doctor import examine, failed, table

    findings = examine(runs.absolute())
    Console().print(table(findings))
    if failed(findings):
        raise typer.Exit(1)


PANELS = {
    "Data": (phantom, check),
    "Training": (train_cv, train_photos, pretrain_hed, pretrain_phantoms),
    "Using a bundle": (count, score, serve, serve_config),
    "Results": (report,),
    "This machine": (doctor,),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.add_typer(labels_app, name="labels", rich_help_panel="Data")
app.add_typer(weights_app, name="weights", rich_help_panel="This machine")
