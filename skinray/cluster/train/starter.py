"""Pretraining of the starters: Ray Data draws phantoms while the networks train on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray.data
from ray.data import DataContext

from skinray.cluster.device import ready_device
from skinray.cluster.session import session
from skinray.config.kinds import STAGES
from skinray.learning.auto.starter import STARTERS, StarterSettings, Step, drawn_steps, pretrain
from skinray.progress import Steps


def pretrain_phantoms(out: Path, steps: int | None = None, seed: int = 0) -> list[Path]:
    """Pretrain both starters on drawn phantoms; return their files of weights in ``out``.

    The same ``steps`` and ``seed`` give the same bits on one machine.

    Parameters
    ----------
    steps : of each network; None: those of ``STARTERS``.
    """
    files = []
    with session():
        ready_device(1)
        for stage in STAGES["biopsy"]:
            asked: dict[str, Any] = {"seed": seed} | ({"steps": steps} if steps else {})
            settings = STARTERS[stage].override(asked)
            with Steps(f"Pretraining the {stage} network", settings.steps) as shown:
                files.append(pretrain(settings, out, _Drawn(settings), shown.tell))
    return files


class _Drawn:
    """Steps drawn by Ray tasks, in order."""

    def __init__(self, settings: StarterSettings) -> None:
        self.settings = settings

    def __call__(self, groups: list[int]) -> Iterator[Step]:
        """Yield the steps of the groups."""
        context = DataContext.get_current().copy()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        with DataContext.current(context):
            rows = ray.data.from_items(groups, override_num_blocks=len(groups))
            drawn = rows.flat_map(self._draw, num_cpus=1)
            for row in drawn.iter_rows():
                yield Step(row["images"], row["masks"])

    def _draw(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        return [step._asdict() for step in drawn_steps(self.settings, int(row["item"]))]
