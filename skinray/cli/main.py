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
from skinray.cli.biopsies import check, phantom, pretrain_hed, train_cv
from skinray.cli.photos import train_photos
from skinray.cli.results import report, score, serve
from skinray.cli.weights import weights_app
from skinray.errors import SkinrayError
from skinray.logs import logged_run

app = typer.Typer(
    name="skinray",
    help="Count nerve fibres that cross the dermal-epidermal boundary in skin biopsies.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

# What typer exits with after Ctrl-C.
INTERRUPTED = 130
# A write that fails for want of room does not say to which file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


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


def doctor(
    runs: Annotated[Path, typer.Option(help="Folder that runs are to be written to.")] = Path(),
) -> None:
    """Say what is wrong with this machine and how to mend it; exit code 1 if anything must be."""
    from rich.console import Console

    from skinray.cluster.doctor import examine, failed, table

    findings = examine(runs.absolute())
    Console().print(table(findings))
    if failed(findings):
        raise typer.Exit(1)


for verb in (phantom, check, train_cv, train_photos, score, serve, report, doctor, pretrain_hed):
    app.command()(verb)
app.add_typer(weights_app, name="weights")
