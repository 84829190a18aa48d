"""Table I of a run on photographs: every network in every scenario, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from skinray.config.photos import LOOKED_AT, SkinSettings, looked_at
from skinray.files import write_whole
from skinray.learning.photos.scores import Estimate, PhotoScore, Summary
from skinray.learning.photos.trials import SCENARIOS, Scenario
from skinray.learning.photos.views import View
from skinray.report.biopsies.results import StoredResults
from skinray.report.photos.csv_files import TABLE, write_csv
from skinray.report.photos.examples import PhotoExample
from skinray.report.photos.paper import PAPER, Published

# Stands beside every network whose training is told of in looked_words.
LOOKED = "\N{DAGGER}"
# Share of all pixels from which on a network is taken to say the same of every one.
SAME = 0.999
# Most files that a sentence names.
NAMED = 5


class PhotoRow(BaseModel):
    """One network in one scenario, predicting plainly or with test-time flips.

    Attributes
    ----------
    epochs, best_epoch : how many were trained, and after which one validation was best; of an
        ensemble those of its first member, and None.
    members : trainings of the network whose probabilities were averaged.
    begun : the weights the network began from, in words.
    parameters : of one network, counted; None where a run did not count them.
    epoch_s : median seconds of an epoch of this training, its validation included; of an ensemble
        those of its first member.
    looked_at : what :func:`skinray.config.photos.looked_at` says; set by the results.
    """

    model_config = ConfigDict(frozen=True)

    network: str
    model: str
    scenario: Scenario
    epochs: int
    summary: Summary
    photos: list[PhotoScore]
    flips: bool = False
    members: int = 1
    begun: str = ""
    best_epoch: int | None = None
    parameters: int | None = None
    epoch_s: float | None = None
    looked_at: bool = Field(False, exclude=True)
    views: list[View] = []
    examples: list[PhotoExample] = []

    @property
    def label(self) -> str:
        """The network, what was averaged, and the mark of a training that looked at tests."""
        averaged = [f"{self.members} members"] if self.members > 1 else []
        averaged += ["flips"] if self.flips else []
        told = f"{self.network}, {' and '.join(averaged)} averaged" if averaged else self.network
        return f"{told} {LOOKED}" if self.looked_at else told

    @property
    def plain(self) -> bool:
        """Whether it is one network, which sees each photograph once."""
        return self.members == 1 and not self.flips

    @property
    def blind(self) -> str:
        """What it says of 999 pixels in 1000, "skin" or "no skin"; empty: it tells them apart."""
        pixels = sum(photo.pixels for photo in self.photos)
        found = sum(photo.predicted for photo in self.photos)
        if found < SAME * pixels:
            return "no skin" if found <= (1 - SAME) * pixels else ""
        return "skin" if pixels else ""

    @property
    def published(self) -> Published | None:
        """The paper's figures of the network, where it has them: it averages nothing."""
        return PAPER.get(self.model) if self.plain else None

    @property
    def paper(self) -> str:
        """The paper's Jaccard (Dice), where it has one."""
        return self.published.scores[SCENARIOS.index(self.scenario)] if self.published else ""


class PhotoResults(StoredResults):
    """All that a run on photographs came to.

    ``unmarked`` names the photographs whose masks mark no skin, to train with or to test on.
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

    @field_validator("rows")
    @classmethod
    def _marked(cls, rows: list[PhotoRow], info: ValidationInfo) -> list[PhotoRow]:
        # By the settings, so that a run of before the mark has it too.
        settings = info.data.get("settings", {})
        return [
            row.model_copy(update={"looked_at": looked_at(settings, row.model)}) for row in rows
        ]

    def save(self, run_dir: Path) -> Path:
        """Write ``table1.csv``, ``table1.md``, ``photos.csv``, ``views.csv``, ``results.json``.

        Each appears whole; ``results.json``, of which the report is made, comes last.
        """
        write_csv(run_dir, self.rows)
        write_whole(run_dir / f"{TABLE}.md", table_text(self))
        return super().save(run_dir)


def table_text(results: PhotoResults) -> str:
    """Return the table as Markdown, the paper's figures beside."""
    without = sum(results.backgrounds.values())
    lines = [
        "# Skin in photographs",
        "",
        f"{results.test_images} test photographs; {results.train_images} to train or fine-tune; "
        f"{results.pretraining_images} public ones to pretrain"
        f"{f'; {without} without skin, to put skin before' if without else ''}. "
        "At each photograph's own size, with 95 % bootstrap intervals over photographs. The "
        "paper's figures are Jaccard (Dice) on photographs of its own. " + epoch_words(results),
        "",
        "| network | scenario | parameters | epoch time | epochs | Jaccard | Jaccard, pooled "
        "| Dice | the paper's parameters | its epoch time | its Jaccard (Dice) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        figures = (row.summary.jaccard, row.summary.jaccard_pooled, row.summary.dice)
        shown = " | ".join(map(with_interval, figures))
        size = f"{count(row.parameters)} | {duration(row.epoch_s)}"
        theirs = row.published
        paper = (
            f"{theirs.parameters} | {theirs.epoch_time} | {row.paper}" if theirs else "- | - | -"
        )
        lines.append(
            f"| {row.label} | {row.scenario} | {size} | {row.epochs} | {shown} | {paper} |"
        )
    starts = dict.fromkeys((row.network, row.begun) for row in results.rows)
    beyond = [f"{name} began from {begun}." for name, begun in starts if begun not in PLAIN_STARTS]
    beyond += [*looked_words(results.rows), *of_masks(results), *unlearned(results.rows)]
    return "\n".join([*lines, *(["", *beyond] if beyond else [])]) + "\n"


def epoch_words(results: PhotoResults) -> str:
    """Say what stands in the columns of parameters and epoch times, and what the hardware is."""
    return (
        "Parameters are those of one network. Epoch time is the median over the epochs of a "
        f"training, with its validation, in this run ({results.hardware}, where it was started); "
        "the paper names neither its hardware nor the training that its times are of."
    )


def looked_words(rows: Sequence[PhotoRow]) -> list[str]:
    """Return the sentence that the mark in tables stands for, where a row has it."""
    if not any(row.looked_at for row in rows):
        return []
    return [f"{LOOKED} This training was {LOOKED_AT}; on those its figures lean high."]


def count(number: int | None) -> str:
    """Show a number of parameters, as ``7,463,645``."""
    return "not recorded" if number is None else f"{number:,}"


def duration(seconds: float | None) -> str:
    """Show the time of an epoch in two digits or more."""
    if seconds is None:
        return "not recorded"
    return f"{seconds:.{0 if seconds >= 10 else 1 if seconds >= 1 else 2}f} s"


def of_masks(results: PhotoResults) -> list[str]:
    """Return what is to be known of the masks, the networks' and the traced ones, in sentences."""
    skin = SkinSettings.model_validate(results.settings.get("skin", {}))
    said = []
    if skin.refine:
        said.append("The photographs' own edges draw those of the masks found (skin.refine).")
    if skin.threshold != SkinSettings().threshold:
        said.append(f"A pixel counts as skin from a probability of {skin.threshold:g} on.")
    if results.unmarked:
        said.append(unmarked_words(results.unmarked))
    tested = sum(photo.skin == 0 for photo in results.rows[0].photos) if results.rows else 0
    if tested:
        have = "has" if tested == 1 else "have"
        said.append(
            f"{tested} of the {results.test_images} test photographs {have} no skin marked; where "
            f"some was found, that lowers the mean by up to {tested / results.test_images:.3f}."
        )
    return said


def unmarked_words(names: Sequence[str]) -> str:
    """Say which masks mark no skin, and what that does."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    masks = "mask marks" if len(names) == 1 else "masks mark"
    return (
        f"{len(names)} {masks} no skin: {', '.join(names[:NAMED])}{more}. A photograph that shows "
        "some all the same is marked wrongly: in training it teaches networks to find none, and in "
        "a test it counts 0 for each that finds some. Mark its skin, or take it out."
    )


def unlearned(rows: Sequence[PhotoRow]) -> list[str]:
    """Return a sentence of each row that says the same of all but every pixel."""
    return [
        f"{row.label}, {row.scenario}: calls all but every pixel {row.blind}, so it has learned "
        "nothing of these photographs; train it longer, at another rate or with another optimiser."
        for row in rows
        if row.blind
    ]


PLAIN_STARTS = ("", "random weights")


def with_interval(figure: Estimate) -> str:
    """Show a figure with its 95 % interval, three digits."""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
