"""Which augmented crop is trained when: a plan that no number of workers can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING

from skinray.images.augment import generator

if TYPE_CHECKING:
    from skinray.learning.trial import TrialSpec


@dataclass(frozen=True)
class PlanRow:
    """One augmented crop: of which image, in which epoch, and its how-manieth draw there."""

    epoch: int
    image: int
    repeat: int


def rows_multiple(batch_size: int, workers: tuple[int, int]) -> int:
    """Rows an epoch must be a multiple of, so that any number of workers shares it evenly."""
    low, high = workers
    return batch_size * lcm(*range(low, high + 1))


def epoch_plan(
    names: Sequence[str], seed: int, epoch: int, draws: int = 1, multiple: int = 1
) -> list[PlanRow]:
    """List an epoch's rows in training order.

    Each image stands in ``draws`` rows, shuffled by (seed, epoch). The list is padded to a
    multiple of ``multiple`` with further draws of its first images, because Ray drops what
    cannot be shared evenly between workers.
    """
    order = generator(seed, epoch, "order").permutation(len(names) * draws)
    rows = [PlanRow(epoch, int(at) % len(names), int(at) // len(names)) for at in order]
    missing = -len(rows) % multiple
    for extra in range(missing):
        again = rows[extra % len(order)]
        rows.append(PlanRow(epoch, again.image, draws + extra))
    return rows


def remaining_rows(
    spec: TrialSpec, workers: tuple[int, int], epoch: int, row: int
) -> list[PlanRow]:
    """List an epoch's rows from ``row`` on, padded so that any number of workers shares them."""
    train = spec.arm.train
    multiple = rows_multiple(train.batch_size, workers)
    plan = epoch_plan(spec.names, spec.seed, epoch, train.draws_per_image, multiple)
    # After a change of the number of workers the rest may not divide evenly: keep what does.
    rest = plan[row:]
    return rest[: len(rest) - len(rest) % multiple]
