"""Work after training as Ray tasks: each takes one worker's share of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import ray
from rich.console import Console

from skinray.cluster.resources import Resources
from skinray.progress import Steps

T = TypeVar("T")
# Of a task whose node was lost.
RETRIES = 3


def run_tasks(
    title: str,
    function: Callable[..., T],
    calls: Iterable[tuple[Any, ...]],
    resources: Resources,
    console: Console | None = None,
) -> list[T]:
    """Call a function once for each tuple of arguments; return what came, in their order.

    Parameters
    ----------
    title : heads the progress line.
    calls : what several share is best put into Ray's store before (``ray.put``).
    """
    task: Any = ray.remote(
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
        max_retries=RETRIES,
    )(function)
    refs = [task.remote(*call) for call in calls]
    with Steps(title, len(refs), console) as steps:
        for done in range(1, len(refs) + 1):
            ray.wait(refs, num_returns=done, fetch_local=False)
            steps.set(done)
    return list(ray.get(refs))
