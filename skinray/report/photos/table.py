"""The results of a run on photographs, and its Table I as Markdown beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from skinray.config.photos import LOOKED_AT, SkinSettings, looked_at
from skinray.files import write_whole
from skinray.learning.metrics import has_learned
from skinray.learning.photos.scores import Estimate
from skinray.report.biopsies.results import StoredResults
from skinray.report.photos.csv_files import TABLE, write_csv
from skinray.report.photos.rows import LOOKED, PhotoRow

# Most files that a sentence names.
NAMED = 5
PLAIN_STARTS = ("", "random weights")


class PhotoResults(StoredResults):
    """All results of a run on photographs.

    ``unmarked`` names the photographs, of training and test, whose masks mark no skin.
    ``notes`` are other doubts about the masks, in sentences.
    """

    command = "skinray train-photos"
    of = "a run on photographs"

    data: str
    public: list[str]
    fingerprint: str
    pretraining_images: int
    train_images: int
    test_images: int
    rows: list[PhotoRow]
    sources: dict[str, int] = Field(default_factory=dict)
    backgrounds: dict[str, int] = Field(default_factory=dict)
    unmarked: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @field_validator("rows")
    @classmethod
    def _marked(cls, rows: list[PhotoRow], info: ValidationInfo) -> list[PhotoRow]:
        # From the settings, so that runs older than the mark have it too.
        settings = info.data.get("settings", {})
        return [
            row.model_copy(update={"looked_at": looked_at(settings, row.model)}) for row in rows
        ]

    @property
    def failures(self) -> list[str]:
        """What did not work: a sentence for each row of a network that has not learned."""
        return unlearned(self.rows)

    def save(self, run_dir: Path) -> Path:
        """Write ``table1.csv``, ``table1.md``, ``photos.csv``, ``views.csv``, ``results.json``.

        Each appears whole; ``results.json``, which the report is made from, comes last.
        """
        write_csv(run_dir, self.rows)
        write_whole(run_dir / f"{TABLE}.md", table_text(self))
        return super().save(run_dir)


def table_text(results: PhotoResults) -> str:
    """Return Table I as Markdown, beside the paper's figures."""
    without = sum(results.backgrounds.values())
    lines = [
        "# Skin in photographs",
        "",
        f"{results.test_images} test photographs; {results.train_images} for training or "
        f"fine-tuning; {results.pretraining_images} public ones for pretraining"
        f"{f'; {without} without skin, as backgrounds' if without else ''}. "
        "Each photograph is scored at its own size; 95 % CIs (bootstrap) are over photographs. "
        "The paper's figures are Jaccard (Dice) on its own photographs. " + epoch_words(results),
        "",
        "| network | scenario | parameters | epoch time | epochs | Jaccard | Jaccard, pooled "
        "| Dice | the paper's parameters | its epoch time | its Jaccard (Dice) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        figures = (row.summary.jaccard, row.summary.jaccard_pooled, row.summary.dice)
        shown = " | ".join(map(with_interval, figures))
        size = f"{count(row.parameters)} | {duration(row.epoch_s)}"
        paper = "- | - | -"
        if theirs := row.published:
            paper = f"{theirs.parameters} | {theirs.epoch_time} | {row.paper}"
        lines.append(
            f"| {row.label} | {row.scenario} | {size} | {row.epochs} | {shown} | {paper} |"
        )
    rows = results.rows
    notes = [*starts(rows), *looked_words(rows), *of_masks(results), *unlearned(rows)]
    return "\n".join([*lines, *(["", *notes] if notes else [])]) + "\n"


def epoch_words(results: PhotoResults) -> str:
    """Explain the columns of parameters and epoch times, with the hardware."""
    return (
        "Parameters are those of one network. Epoch time is the median over the epochs of a "
        f"training, including validation, in this run (started on {results.hardware}); the paper "
        "names neither its hardware nor the training that its times are from."
    )


def looked_words(rows: Sequence[PhotoRow]) -> list[str]:
    """Return what the mark in tables means, if a row has it."""
    if not any(row.looked_at for row in rows):
        return []
    return [f"{LOOKED} This training was {LOOKED_AT}; on those its figures are optimistic."]


def count(number: int | None) -> str:
    """Return a number of parameters, as ``7,463,645``."""
    return "not recorded" if number is None else f"{number:,}"


def duration(seconds: float | None) -> str:
    """Return the time of an epoch with at least two digits."""
    if seconds is None:
        return "not recorded"
    return f"{seconds:.{0 if seconds >= 10 else 1 if seconds >= 1 else 2}f} s"


def of_masks(results: PhotoResults) -> list[str]:
    """Return what to know about the predicted and the traced masks, in sentences."""
    skin = SkinSettings.model_validate(results.settings.get("skin", {}))
    said = []
    if skin.refine:
        said.append("The predicted masks follow the photographs' own edges (skin.refine).")
    if skin.threshold != SkinSettings().threshold:
        said.append(f"A pixel counts as skin at a probability of {skin.threshold:g} or more.")
    if results.unmarked:
        said.append(unmarked_words(results.unmarked))
    said += results.notes
    tested = sum(photo.skin == 0 for photo in results.rows[0].photos) if results.rows else 0
    if tested:
        have = "has" if tested == 1 else "have"
        said.append(
            f"{tested} of the {results.test_images} test photographs {have} no skin marked; if "
            f"some is found there, the mean drops by up to {tested / results.test_images:.3f}."
        )
    return said


def unmarked_words(names: Sequence[str]) -> str:
    """Say which masks mark no skin, and what follows from it."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    masks = "mask marks" if len(names) == 1 else "masks mark"
    return (
        f"{len(names)} {masks} no skin: {', '.join(names[:NAMED])}{more}. If such a photograph "
        "does show skin, its mask is wrong: in training it teaches networks to find none, and in "
        "a test it scores 0 for every network that finds some. Mark its skin or remove it."
    )


def unlearned(rows: Sequence[PhotoRow]) -> list[str]:
    """Return a sentence for each row that is no better than a mask that ignores the photograph."""
    said = []
    for row in rows:
        does = f"calls nearly every pixel {row.blind}" if row.blind else ""
        # A network that never saw such photographs may well fail on them: that is a result.
        seen = row.scenario != "direct transfer"
        if not does and seen and not has_learned(row.summary.jaccard.value, row.chance):
            does = (
                f"has a mean Jaccard of {row.summary.jaccard.value:.2f}, and a mask that ignores "
                f"the photograph reaches {row.chance:.2f}"
            )
        if does:
            said.append(
                f"{row.label}, {row.scenario}: {does}, so it has learned nothing that helps on "
                "these photographs; train it longer, or with another learning rate or optimiser."
            )
    return said


def starts(rows: Sequence[PhotoRow]) -> list[str]:
    """Return a sentence for each network that did not start from plain random weights."""
    begun = dict.fromkeys((row.network, row.begun) for row in rows)
    return [f"{name} started from {how}." for name, how in begun if how not in PLAIN_STARTS]


def with_interval(figure: Estimate) -> str:
    """Return a figure with its 95 % CI, three digits."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
