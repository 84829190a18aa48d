"""Table I of a run on photographs: every network in every scenario, beside the paper's."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from skinray.learning.photo_scores import Interval, PhotoScore, Summary
from skinray.learning.photo_trials import SCENARIOS, Scenario
from skinray.report.score_tables import spreadsheet_cell

RESULTS, TABLE, PHOTOS = "results.json", "table1", "photos.csv"
# Jaccard (Dice) of the paper's table I, on its own 300 photographs.
PAPER: dict[str, tuple[str, str, str]] = {
    "skin_dense_unet": (".55 (.71)", ".80 (.89)", ".88 (.94)"),
    "skin_unet_large": (".51 (.67)", ".83 (.91)", ".89 (.94)"),
    "skin_unet": (".44 (.61)", ".79 (.88)", ".89 (.94)"),
}


class PhotoRow(BaseModel):
    """One network in one scenario."""

    model_config = ConfigDict(frozen=True)

    network: str
    model: str
    scenario: Scenario
    epochs: int
    summary: Summary
    photos: list[PhotoScore]

    @property
    def paper(self) -> str:
        """The paper's figure, where it has one."""
        published = PAPER.get(self.model)
        return published[SCENARIOS.index(self.scenario)] if published else ""


class PhotoResults(BaseModel):
    """All that a run on photographs came to."""

    model_config = ConfigDict(frozen=True)

    data: str
    public: list[str]
    fingerprint: str
    pretraining_images: int
    train_images: int
    test_images: int
    rows: list[PhotoRow]
    started: str
    seconds: float
    versions: dict[str, str]
    hardware: str

    def save(self, out: Path) -> None:
        """Write ``results.json``, ``table1.csv``, ``table1.md`` and ``photos.csv``."""
        (out / RESULTS).write_text(self.model_dump_json(indent=1), encoding="utf-8")
        (out / f"{TABLE}.csv").write_text(_csv([HEADER, *map(cells, self.rows)]), encoding="utf-8")
        (out / f"{TABLE}.md").write_text(table_text(self), encoding="utf-8")
        lines = [["network", "scenario", "photo", "pixels", "skin", "predicted", "jaccard", "dice"]]
        for row in self.rows:
            for one in row.photos:
                numbers = (one.pixels, one.skin, one.predicted, one.jaccard, one.dice)
                lines.append(
                    [
                        row.network,
                        row.scenario,
                        str(spreadsheet_cell(one.name)),
                        *map(_number, numbers),
                    ]
                )
        (out / PHOTOS).write_text(_csv(lines), encoding="utf-8")

    @classmethod
    def load(cls, out: Path) -> PhotoResults:
        """Read what :meth:`save` wrote."""
        return cls.model_validate(json.loads((out / RESULTS).read_text(encoding="utf-8")))


HEADER = [
    "network", "scenario", "epochs", "images", "jaccard", "jaccard_low", "jaccard_high",
    "jaccard_pooled", "jaccard_pooled_low", "jaccard_pooled_high", "dice", "dice_low",
    "dice_high", "paper",
]  # fmt: skip


def cells(row: PhotoRow) -> list[str]:
    """Return a row of ``table1.csv``."""
    summary = row.summary
    figures = (summary.jaccard, summary.jaccard_pooled, summary.dice)
    numbers = [number for one in figures for number in (one.value, one.low, one.high)]
    first = [row.network, row.scenario, str(row.epochs), str(summary.images)]
    return [*first, *map(_number, numbers), row.paper]


def table_text(results: PhotoResults) -> str:
    """Return the table as Markdown, the paper's figures beside."""
    lines = [
        "# Skin in photographs",
        "",
        f"{results.test_images} test photographs; {results.train_images} to train or fine-tune; "
        f"{results.pretraining_images} public ones to pretrain. At each photograph's own size, "
        "with 95 % bootstrap intervals over photographs. The paper's figures are Jaccard (Dice) "
        "on photographs of its own.",
        "",
        "| network | scenario | epochs | Jaccard | Jaccard, pooled | Dice | the paper's |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        figures = (row.summary.jaccard, row.summary.jaccard_pooled, row.summary.dice)
        shown = " | ".join(map(_with_interval, figures))
        lines.append(
            f"| {row.network} | {row.scenario} | {row.epochs} | {shown} | {row.paper or '-'} |"
        )
    return "\n".join(lines) + "\n"


def _with_interval(figure: Interval) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _csv(rows: list[list[str]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
