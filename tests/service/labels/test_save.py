"""Corrections of an engine's counts, stored as labels."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import stand_in
from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.errors import LabelError
from skinray.images.cohort.manifest import load_sample, read_manifest
from skinray.learning import bundle
from skinray.service.engine import LocalEngine
from skinray.service.labels.save import (
    MAX_POINTS,
    LabelAnswer,
    labels_info,
    parse_points,
    save_label,
)

SHAPE = (96, 128)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder = stand_in.stand_in_bundle(tmp_path_factory.mktemp("b") / "bundle")
    return LocalEngine(bundle.load(folder, "cpu"))


def save(engine: LocalEngine, folder: Path, points: object, **fields: object) -> LabelAnswer:
    image = stand_in.drawn_image(nerves=2)
    text = points if isinstance(points, str) else json.dumps(points)
    scale = fields.pop("um_per_px", None)
    return asyncio.run(save_label(engine, folder, image, scale, text, **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("um_per_px", [None, 0.5, 0.4])
def test_a_correction_becomes_a_label_that_counts_the_same(
    engine: LocalEngine, tmp_path: Path, um_per_px: float | None
) -> None:
    corrected = [[50.0, 42.0], [50.0, 64.0]]  # the second nerve removed, one added between
    answer = save(engine, tmp_path, corrected, um_per_px=um_per_px, subject="S 3")
    assert (answer.count, answer.replaced, answer.images) == (2, False, 1)
    (biopsy,) = read_manifest(tmp_path).biopsies
    assert (biopsy.subject, biopsy.count, biopsy.um_per_px) == ("S 3", 2, um_per_px)
    sample = load_sample(biopsy, ReadSettings())
    found = find_crossings(
        sample.masks["nerve"], sample.masks["dermis"], um_per_px=um_per_px
    ).points
    np.testing.assert_allclose(found, corrected, atol=3)
    assert asyncio.run(labels_info(tmp_path)).images == 1


def test_a_label_uses_the_chosen_threshold(engine: LocalEngine, tmp_path: Path) -> None:
    points = [[50.0, 42.0], [50.0, 85.0]]
    save(engine, tmp_path, points, nerve_threshold=0.9)
    for wrong in (0.0, 1.0, -3.0, float("nan")):
        with pytest.raises(LabelError, match="between 0 and 1"):
            save(engine, tmp_path, points, nerve_threshold=wrong)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("{}", "not a list of points"),
        ("[1, 2]", "not a list of points"),
        ("[[1, 2, 3]]", "not a list of points"),
        ('[["1", 2]]', "not a list of points"),
        ("[[true, 2]]", "not a list of points"),
        ("[[NaN, 2]]", "not a list of points"),
        ("[[1e999, 2]]", "not a list of points"),
        (f"[[1{'0' * 400}, 2]]", "not a list of points"),
        ("[[96, 5]]", "is outside the image"),
        ("[[5, -1]]", "is outside the image"),
        (json.dumps([[1, 1]] * (MAX_POINTS + 1)), "at most"),
    ],
)
def test_invalid_points_are_refused(text: str, reason: str) -> None:
    with pytest.raises(LabelError, match=reason):
        parse_points(text, SHAPE)


def test_an_empty_list_means_no_crossings() -> None:
    assert parse_points("[]", SHAPE).shape == (0, 2)


def test_nothing_is_written_for_a_refused_label(engine: LocalEngine, tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    with pytest.raises(LabelError, match="not on the boundary"):
        save(engine, folder, [[5.0, 5.0]])
    with pytest.raises(LabelError, match="plain name"):
        save(engine, folder, [], subject="=1")
    assert not folder.exists()
