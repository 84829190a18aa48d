"""Which augmented crop is trained when, and by which worker: fixed before any worker starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skinray.images.augment import generator
from skinray.learning.spec import TrialSpec


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One augmented crop: of which image, in which epoch, and which draw of it there."""

    epoch: int
    image: int
    repeat: int


def epoch_plan(
    names: Sequence[str], seed: int, epoch: int, draws: int = 1, step: int = 1
) -> list[PlanRow]:
    """List an epoch's rows in training order.

    Each image stands in ``draws`` rows, shuffled by (seed, epoch). Further draws of the epoch's
    first images fill the last step: at most ``step - 1`` rows.

    Parameters
    ----------
    step : crops that one step of the optimiser takes, over all workers.
    """
    order = generator(seed, epoch, "order").permutation(len(names) * draws)
    rows = [PlanRow(epoch, int(at) % len(names), int(at) // len(names)) for at in order]
    missing = -len(rows) % step
    for extra in range(missing):
        again = rows[extra % len(order)]
        rows.append(PlanRow(epoch, again.image, draws + extra))
    return rows


def remaining_steps(
    spec: TrialSpec, epoch: int, row: int = 0, rank: int = 0, size: int = 1
) -> list[list[PlanRow]]:
    """List one worker's rows of each step of an epoch, from ``row`` of the plan on.

    The i-th row of a step goes to worker i modulo ``size``, so the rows that all workers train
    are the plan's, whatever their number, and a group of another size takes over at any step.

    Parameters
    ----------
    row : a multiple of the step's size: rows that were trained before.
    rank, size : of this worker, and the number of workers.
    """
    draws, step = spec.arm.train.draws_per_image, spec.step
    rows = epoch_plan(spec.names, spec.seed, epoch, draws, step)
    return [rows[at : at + step][rank::size] for at in range(row, len(rows), step)]
