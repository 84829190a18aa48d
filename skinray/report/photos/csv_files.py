"""The files of a run on photographs for programs: CSV, a remark beside what looked at tests."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skinray.config.photos import LOOKED_AT
from skinray.files import write_whole
from skinray.learning.photos.scores import Estimate
from skinray.scoring.tables import spreadsheet_cell

if TYPE_CHECKING:
    from skinray.report.photos.table import PhotoRow


def write_csv(run_dir: Path, rows: Sequence[PhotoRow]) -> None:
    """Write ``table1.csv``, ``photos.csv`` and ``views.csv``, each of which appears whole."""
    write_whole(run_dir / f"{TABLE}.csv", _csv([HEADER, *map(cells, rows)]))
    write_whole(run_dir / PHOTOS, _csv(_photo_lines(rows)))
    write_whole(run_dir / VIEWS, _csv(_view_lines(rows)))


HEADER = [
    "network", "scenario", "epochs", "images", "jaccard", "jaccard_low", "jaccard_high",
    "jaccard_pooled", "jaccard_pooled_low", "jaccard_pooled_high", "dice", "dice_low",
    "dice_high", "paper", "prediction", "best_epoch", "begun_from", "parameters", "epoch_s",
    "paper_parameters", "paper_epoch_time", "remark",
]  # fmt: skip


def cells(row: PhotoRow) -> list[str]:
    """Return a row of ``table1.csv``."""
    summary = row.summary
    figures = (summary.jaccard, summary.jaccard_pooled, summary.dice)
    numbers = [number for one in figures for number in (one.value, one.low, one.high)]
    first = [row.network, row.scenario, str(row.epochs), str(summary.images)]
    told = [row.paper, _prediction(row), _number(row.best_epoch), row.begun]
    size = ["" if row.parameters is None else str(row.parameters), _number(row.epoch_s)]
    size += [row.published.parameters, row.published.epoch_time] if row.published else ["", ""]
    return [*first, *map(_number, numbers), *told, *size, _remark(row)]


def _photo_lines(rows: Sequence[PhotoRow]) -> list[list[str]]:
    header = [
        "network", "scenario", "photo", "pixels", "skin", "predicted", "jaccard", "dice",
        "mean_lightness", "ita_deg", "prediction", "remark",
    ]  # fmt: skip
    lines = [header]
    for row in rows:
        for one in row.photos:
            numbers = (
                one.pixels, one.skin, one.predicted, one.jaccard, one.dice, one.lightness,
                one.ita_deg,
            )  # fmt: skip
            name = str(spreadsheet_cell(one.name))
            told = [row.network, row.scenario, name, *map(_number, numbers), _prediction(row)]
            lines.append([*told, _remark(row)])
    return lines


def _view_lines(rows: Sequence[PhotoRow]) -> list[list[str]]:
    header = [
        "network", "scenario", "prediction", "by", "bin", "unit", "from", "below", "images",
        "jaccard", "jaccard_low", "jaccard_high", "note", "remark",
    ]  # fmt: skip
    lines = [header]
    for row in rows:
        for view in row.views:
            for one in view.bins:
                figure = one.jaccard or Estimate(value=0, low=None, high=None)
                numbers = (figure.value if one.jaccard else None, figure.low, figure.high)
                note = "" if one.jaccard else f"fewer than {view.least} photographs"
                lines.append(
                    [
                        row.network, row.scenario, _prediction(row), view.name, one.label,
                        view.unit, _number(one.low), _number(one.high), str(one.images),
                        *map(_number, numbers), note, _remark(row),
                    ]
                )  # fmt: skip
    return lines


def _prediction(row: PhotoRow) -> str:
    averaged = [f"{row.members} members"] if row.members > 1 else []
    return ", ".join([*averaged, *(["flips"] if row.flips else [])]) or "plain"


def _remark(row: PhotoRow) -> str:
    return LOOKED_AT if row.looked_at else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _csv(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


TABLE, PHOTOS, VIEWS = "table1", "photos.csv", "views.csv"


def is_photo_run(folder: Path) -> bool:
    """Whether a folder is that of ``skinray train-photos``."""
    return (folder / f"{TABLE}.csv").is_file()
