"""The options that both ways to train share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path | None,
    typer.Option(help="Run folder; on a cluster every node must see it. Default: runs/NAME-TIME."),
]
Resume = Annotated[bool, typer.Option(help="Continue the interrupted run in --out.")]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Seed of the run. Default: the recipe's, which is 0.")
]
Workers = Annotated[
    str | None,
    typer.Option(
        help="Workers that train one network together: a number such as 4, or 2,8 for as many "
        "from 2 to 8 as the cluster has."
    ),
]
