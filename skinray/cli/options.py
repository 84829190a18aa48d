"""The options that several verbs share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; on a cluster every node must see it. Default: runs/NAME-TIME."),
]
Resume = Annotated[bool, typer.Option(help="Continue the interrupted run in --out.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of the run. Default: the recipe's.")]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Workers that train one network together: a number such as 4, or 2,8 for as many "
        "from 2 to 8 as the cluster has."
    ),
]


def set_option(examples: str) -> Any:
    """Return the option ``--set`` with the examples that fit the verb."""
    return typer.Option("--set", help=f"Change a setting, for example {examples}. May be repeated.")
