"""Best, median and worst held-out image: the model's drawing beside the expert's (figure 4)."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinray.config.base import validate
from skinray.config.biopsies import CrossingSettings
from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.errors import SkinrayError
from skinray.images.augment import Sample
from skinray.images.cohort.manifest import load_sample
from skinray.images.cohort.rows import Biopsy
from skinray.images.cohort.scan import Scan, scan_cohort
from skinray.report.biopsies.results import CountRow, RunResults
from skinray.report.charts import Rank, jpeg_uri, ranks
from skinray.scoring.overlays import encode_jpeg, overlay


@dataclass(frozen=True)
class Example:
    """One image of the report.

    Attributes
    ----------
    model_uri, expert_uri : the two drawings as data URIs; empty if they cannot be made.
    traced : crossings found on the expert's tracing; None without a drawing.
    problem : why there are no drawings.
    """

    rank: str
    row: CountRow
    model_uri: str = ""
    expert_uri: str = ""
    traced: int | None = None
    problem: str = ""


def pick(rows: Sequence[CountRow]) -> list[tuple[Rank, CountRow]]:
    """Choose best, median and worst image by the error of the count, then by nerve Dice."""
    ranked = sorted(rows, key=_error)
    return [(rank, ranked[place]) for rank, place in ranks(len(ranked))]


def make_examples(results: RunResults, run_dir: Path) -> list[Example]:
    """Draw the chosen images; one that cannot be drawn says why."""
    picked = pick(results.counts)
    if not picked:
        return []
    # Problems in other rows must not remove these pictures.
    scan = scan_cohort(Path(results.data))
    return [_example(rank, row, results, run_dir, scan) for rank, row in picked]


def _error(row: CountRow) -> tuple[int, float, str]:
    score = row.nerve_dice.get(0, math.nan)
    return abs(row.model - row.expert), 1 - score if math.isfinite(score) else 1.0, row.image


def _example(rank: str, row: CountRow, results: RunResults, run_dir: Path, scan: Scan) -> Example:
    try:
        settings = _crossing_settings(results, row)
        sample = _sample(row, results, scan)
        model = _model_drawing(row, run_dir, sample, settings)
        expert, traced = _expert_drawing(row, sample, settings)
    except (SkinrayError, OSError) as error:
        return Example(rank, row, problem=" ".join(str(error).split()))
    return Example(rank, row, jpeg_uri(encode_jpeg(model)), jpeg_uri(encode_jpeg(expert)), traced)


def _crossing_settings(results: RunResults, row: CountRow) -> CrossingSettings:
    """Return the fold's fitted parameters; the run's own if none were fitted."""
    values = dict(results.settings.get("crossings") or {})
    for fold in results.folds:
        if fold.fold == row.fold:
            values.update(fold.crossings)
    return validate(CrossingSettings, values, f"fold {row.fold}")


def _sample(row: CountRow, results: RunResults, scan: Scan) -> Sample:
    for biopsy in scan.sound.biopsies:
        if biopsy.name == row.image or biopsy.image == Path(row.path):
            read = validate(ReadSettings, results.settings.get("read") or {}, "settings.yaml")
            return _at_scale_of_the_maps(biopsy, row, read)
    own = [problem for problem in scan.problems if problem.file == row.image]
    if not scan.sound.biopsies:
        own += scan.problems
    raise SkinrayError(str(own[0]) if own else f"{row.image}: no longer in the cohort's manifest")


def _at_scale_of_the_maps(biopsy: Biopsy, row: CountRow, read: ReadSettings) -> Sample:
    """Read the sample at the pixel size of its stored maps: a run resamples images to one."""
    if biopsy.um_per_px == row.um_per_px or None in (biopsy.um_per_px, row.um_per_px):
        return load_sample(biopsy, read)
    # Loads torch, which a report needs for nothing else: only if images were resampled.
    from skinray.images.cohort.common_scale import LabelledReader

    return LabelledReader(read, row.um_per_px)(biopsy)


def _model_drawing(
    row: CountRow, run_dir: Path, sample: Sample, settings: CrossingSettings
) -> NDArray[np.uint8]:
    if row.prediction is None:
        raise SkinrayError(f"{row.image}: the run kept no prediction for it")
    path = run_dir / row.prediction
    try:
        with np.load(path, allow_pickle=False) as stored:
            nerve = stored["nerve"] > 255 * settings.nerve_threshold
            return overlay(sample.image, nerve, stored["boundary"] > 0, stored["points"])
    except FileNotFoundError:
        raise SkinrayError(f"{row.prediction}: missing from the run folder") from None
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise SkinrayError(f"{row.prediction}: not a prediction of this image ({error})") from None


def _expert_drawing(
    row: CountRow, sample: Sample, settings: CrossingSettings
) -> tuple[NDArray[np.uint8], int]:
    found = find_crossings(sample.masks["nerve"], sample.masks["dermis"], settings, row.um_per_px)
    drawing = overlay(sample.image, sample.masks["nerve"] > 0, found.boundary, found.points)
    return drawing, found.count
