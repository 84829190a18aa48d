"""The options that several verbs share, each described once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from skinray.config.base import parse_number

# Exit code of a training of which a part did not learn.
NOT_LEARNED = 4


def plain_number(text: str | float) -> float:
    """Read the value of an option; bad usage unless it is a number without signs such as _."""
    try:
        return parse_number(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{error}: write it with digits and a point, like 0.5") from None


Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; on a cluster every node must see it. Default: runs/NAME-TIME."),
]
Resume = Annotated[bool, typer.Option(help="Continue the interrupted run in --out.")]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Use a bundle even if its training did not learn.")
]
UsedBundle = Annotated[
    Path | None,
    typer.Option(
        help="Bundle folder from a training run. Default: the starter for biopsies, which has seen "
        "drawings only; every result says so."
    ),
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the run. Default: the recipe's.")]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Workers that train one network together: a number such as 4, or 2,8 for as many "
        "from 2 to 8 as the cluster has."
    ),
]


@contextmanager
def continued(out: Path | str) -> Iterator[None]:
    """Print the command that continues the run in ``out`` if Ctrl-C ends the block."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped. Go on with:\n  {_same_command(out)}", err=True)
        raise


def _same_command(out: Path | str) -> str:
    """Return this command with ``--resume``, and with its run folder if it named none."""
    from skinray.scoring.object_store import without_password

    program, *words = map(without_password, sys.argv)
    how = {"skinray": ["skinray"], "__main__.py": ["python", "-m", "skinray"]}
    words = [*how.get(Path(program).name, ["python", program]), *words]
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(out)]
    return shlex.join([*words, *["--resume"] * ("--resume" not in words)])


def exit_if_failed(failures: Sequence[str]) -> None:
    """Show in red what did not work, and exit with code 4; do nothing if all did."""
    if failures:
        lines = "".join(f"\n  {failure}" for failure in failures)
        typer.secho(f"Parts of this run failed: do not use its results.{lines}", fg="red", err=True)
        raise typer.Exit(NOT_LEARNED)


def set_option(examples: str) -> Any:
    """Return the option ``--set`` with the examples that fit the verb."""
    return typer.Option("--set", help=f"Change a setting, for example {examples}. May be repeated.")
