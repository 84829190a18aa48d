"""The CSV files of a run on photographs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from skinray.config.photos import LOOKED_AT
from skinray.files import CSV_ENCODING, spreadsheet_cell, write_whole
from skinray.report.photos.rows import PhotoRow

TABLE, PHOTOS, VIEWS = "table1", "photos.csv", "views.csv"


def write_csv(run_dir: Path, rows: Sequence[PhotoRow]) -> None:
    """Write ``table1.csv``, ``photos.csv`` and ``views.csv``; each appears whole."""
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
    training = [row.paper, _prediction(row), _number(row.best_epoch), row.begun]
    size = ["" if row.parameters is None else str(row.parameters), _number(row.epoch_s)]
    size += [row.published.parameters, row.published.epoch_time] if row.published else ["", ""]
    return [*first, *map(_number, numbers), *training, *size, _remark(row)]


def _photo_lines(rows: Sequence[PhotoRow]) -> Iterator[list[str]]:
    measured = (
        "pixels", "skin", "predicted", "jaccard", "dice", "mean_lightness", "ita_deg",
    )  # fmt: skip
    yield ["network", "scenario", "photo", *measured, "prediction", "remark"]
    for row in rows:
        for one in row.photos:
            areas = (one.pixels, one.skin, one.predicted)
            numbers = (*areas, one.jaccard, one.dice, one.lightness, one.ita_deg)
            first = [row.network, row.scenario, str(spreadsheet_cell(one.name))]
            yield [*first, *map(_number, numbers), _prediction(row), _remark(row)]


def _view_lines(rows: Sequence[PhotoRow]) -> Iterator[list[str]]:
    yield [
        "network", "scenario", "prediction", "by", "bin", "unit", "from", "below", "images",
        "jaccard", "jaccard_low", "jaccard_high", "note", "remark",
    ]  # fmt: skip
    for row in rows:
        first = [row.network, row.scenario, _prediction(row)]
        for view in row.views:
            for one in view.bins:
                ends = [_number(one.low), _number(one.high)]
                found = one.jaccard
                figures = (found.value, found.low, found.high) if found else (None,) * 3
                note = "" if found else f"fewer than {view.least} photographs"
                yield [
                    *first, view.name, one.label, view.unit, *ends, str(one.images),
                    *map(_number, figures), note, _remark(row),
                ]  # fmt: skip


def _prediction(row: PhotoRow) -> str:
    return ", ".join(row.averaged) or "plain"


def _remark(row: PhotoRow) -> str:
    return LOOKED_AT if row.looked_at else ""


def _number(value: float | None) -> str:
    """Return whole numbers whole, and others with four decimals at most."""
    if value is None or isinstance(value, int):
        return "" if value is None else str(value)
    return f"{value:.4f}".rstrip("0").rstrip(".")


def _csv(rows: Iterable[list[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode(CSV_ENCODING)


def is_photo_run(folder: Path) -> bool:
    """Return whether ``skinray train-photos`` wrote a folder."""
    return (folder / f"{TABLE}.csv").is_file()
