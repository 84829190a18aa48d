"""Pretraining of the starters: Ray Data draws phantoms while the networks train on them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.data
from ray.data import DataContext

from skinray.cluster.device import ready_device
from skinray.cluster.ray_internals import unhurried
from skinray.cluster.session import session
from skinray.config.kinds import STAGES, Stage
from skinray.learning.auto.starter import (
    STARTERS,
    Starter,
    StarterSettings,
    Step,
    drawn_steps,
    pretrain,
)
from skinray.learning.auto.starter_bundle import save_starters
from skinray.progress import Steps


def pretrain_phantoms(out: Path, steps: int | None = None, seed: int = 0) -> Path:
    """Pretrain both starters on drawn phantoms; return their bundle, ``out``.

    The same ``steps`` and ``seed`` give the same bits on one machine.

    Parameters
    ----------
    steps : to take of each network's training; None: all.
    """
    settings = {stage: STARTERS[stage].override({"seed": seed}) for stage in STAGES["biopsy"]}
    starters: dict[Stage, Starter] = {}
    with session():
        ready_device(1)
        for stage, of in settings.items():
            with Steps(f"Pretraining the {stage} network", steps or of.steps) as shown:
                starters[stage] = pretrain(of, _Drawn(of), shown.tell, steps)
    with Steps("Measuring", 1):
        return save_starters(out, settings, starters)


class _Drawn:
    """Steps drawn by Ray tasks, in order."""

    def __init__(self, settings: StarterSettings) -> None:
        self.settings = settings

    def __call__(self, groups: int) -> Iterator[Step]:
        """Yield the steps of the groups."""
        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        unhurried(context)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        with DataContext.current(context):
            rows = ray.data.range(groups, override_num_blocks=groups)
            drawn = rows.flat_map(self._draw, num_cpus=1)
            for row in drawn.iter_rows():
                yield Step(row["images"].copy(), row["masks"].copy())  # Ray's are read-only

    def _draw(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return [step._asdict() for step in drawn_steps(self.settings, int(row["id"]))]
