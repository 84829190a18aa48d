"""The options that several verbs share, each described once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from skinray.errors import SettingsError

# Exit code of a training of which a part did not learn.
NOT_LEARNED = 4

Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; on a cluster every node must see it. Default: runs/NAME-TIME."),
]
Resume = Annotated[bool, typer.Option(help="Continue the interrupted run in --out.")]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Use a bundle even if its training did not learn.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the run. Default: the recipe's.")]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Workers that train one network together: a number such as 4, or 2,8 for as many "
        "from 2 to 8 as the cluster has."
    ),
]


def plain_number(text: str) -> float:
    """Read a number as manifests and requests have it: neither NaN nor 1_0."""
    from skinray.config.base import parse_number

    try:
        return parse_number(text)
    except ValueError as error:
        raise SettingsError(f"{error}: write it as in 0.5") from None


def exit_if_failed(failures: Sequence[str]) -> None:
    """Show in red what did not work, and exit with code 4; do nothing if all did."""
    if failures:
        lines = "".join(f"\n  {failure}" for failure in failures)
        typer.secho(f"Parts of this run failed: do not use its results.{lines}", fg="red", err=True)
        raise typer.Exit(NOT_LEARNED)


def set_option(examples: str) -> Any:
    """Return the option ``--set`` with the examples that fit the verb."""
    return typer.Option("--set", help=f"Change a setting, for example {examples}. May be repeated.")
