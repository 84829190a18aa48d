"""The verbs ``skinray weights ...``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

weights_app = typer.Typer(
    no_args_is_help=True, help="Published pretrained weights: list, fetch, import."
)


@weights_app.command("list")
def weights_list() -> None:
    """List the published weights, where they come from, and whether they are in the cache."""
    from skinray.models.weights.load import rows

    # Lines instead of a table, so that names and addresses can be copied.
    for row in rows():
        typer.echo(f"{row['name']} ({row['model']}; in cache: {row['in cache']})")
        for key in ("trained on", "address", "licence", "sha256"):
            typer.echo(f"    {key}: {row[key]}")


@weights_app.command("fetch")
def weights_fetch(name: Annotated[str, typer.Argument(help="Name from `weights list`.")]) -> None:
    """Download weights, check them, and store them as safetensors in the cache."""
    from skinray.models.weights.load import fetch
    from skinray.progress import bar

    with bar(f"Fetching {name}", None) as tell:
        typer.echo(f"Stored: {fetch(name, tell)}")


@weights_app.command("import")
def weights_import(
    name: Annotated[str, typer.Argument(help="Name from `weights list`.")],
    file: Annotated[Path, typer.Argument(help="The published file that you downloaded.")],
) -> None:
    """Import a weights file that you downloaded elsewhere; nothing in it is executed."""
    from skinray.models.weights.load import import_file

    typer.echo(f"Stored: {import_file(name, file)}")
