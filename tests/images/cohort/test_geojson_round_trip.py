"""GeoJSON that skinray writes, as it is or with nerves traced in QuPath, read back as labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinray.config.images import ReadSettings
from skinray.crossings import find_crossings
from skinray.errors import LabelError
from skinray.images.cohort.dermis_fill import dermis_from_boundary
from skinray.images.cohort.labels import read_boundary, read_nerves
from skinray.learning.metrics import dice
from skinray.scoring.geojson import to_geojson

READ = ReadSettings()
LINE = [[10.5, 20.5], [10.5, 60.5]]


def traced(name: Any, shape: str = "LineString", coordinates: Any = LINE) -> dict[str, Any]:
    """A feature as QuPath exports it."""
    return {
        "type": "Feature",
        "geometry": {"type": shape, "coordinates": coordinates},
        "properties": {"objectType": "annotation", "classification": name},
    }


def written(folder: Path, *features: dict[str, Any]) -> Path:
    path = folder / "labels.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return path


@pytest.fixture(scope="module")
def ours() -> tuple[dict[str, Any], np.ndarray]:
    """What scoring writes for a drawn biopsy with crossings, and the dermis that it found."""
    row, column = np.mgrid[:192, :256]
    dermis = row > 90 + 20 * np.sin(column / 30)
    nerve = np.zeros_like(dermis)
    nerve[60:130, (60, 61, 62, 128, 129, 130, 200, 201, 202)] = True
    found = find_crossings(nerve, dermis)
    assert found.count == 3
    return to_geojson(found.points, found.dermis), found.dermis


def test_a_boundary_of_ours_gives_its_dermis_back(
    tmp_path: Path, ours: tuple[dict[str, Any], np.ndarray]
) -> None:
    answer, dermis = ours
    path = written(tmp_path, *answer["features"])
    line = read_boundary(path, dermis.shape, READ)
    again = dermis_from_boundary(line, dermis.shape, "bottom")
    assert dice(again, dermis) > 0.99


def test_nerves_added_to_our_file_are_read_and_nothing_else_of_it(
    tmp_path: Path, ours: tuple[dict[str, Any], np.ndarray]
) -> None:
    answer, dermis = ours
    before = read_boundary(written(tmp_path, *answer["features"]), dermis.shape, READ)
    path = written(tmp_path, *answer["features"], traced({"name": "Nerve"}))
    nerves = read_nerves(path, dermis.shape, READ)
    assert nerves[20:61, 10].all()
    assert not nerves[:, 14:].any()
    assert np.array_equal(read_boundary(path, dermis.shape, READ), before)


@pytest.mark.parametrize(
    "name", [{"name": "nerves"}, {"name": "Nerve: PGP9.5"}, "Nerve", {"name": "Tumor"}, None, {}]
)
def test_lines_of_the_class_of_another_one_or_of_none_are_nerves(tmp_path: Path, name: Any) -> None:
    path = written(tmp_path, traced(name))
    assert read_nerves(path, (96, 128), READ)[20:61, 10].all()


def test_points_and_areas_of_other_classes_do_not_disturb(tmp_path: Path) -> None:
    ring = [[[0, 50], [128, 50], [128, 96], [0, 96], [0, 50]]]
    path = written(
        tmp_path,
        traced({"name": "Crossings"}, "MultiPoint", [[1, 1], [2, 2]]),
        traced({"name": "Dermis"}, "Polygon", ring),
        traced({"name": "Nerve"}, "MultiLineString", [LINE]),
    )
    assert read_nerves(path, (96, 128), READ)[20:61, 10].all()


def test_a_file_without_the_class_is_refused_with_what_to_trace(
    tmp_path: Path, ours: tuple[dict[str, Any], np.ndarray]
) -> None:
    """Read as a tracing, our file would otherwise be an image without a nerve."""
    answer, dermis = ours
    path = written(tmp_path, *answer["features"])
    with pytest.raises(LabelError) as error:
        read_nerves(path, dermis.shape, READ)
    assert str(error.value) == (
        f"{path}: holds Boundary and Crossing, and no line of class Nerve: "
        "trace it, give it the class Nerve, and export it too, or enter count 0 if there is none"
    )
    with pytest.raises(LabelError, match="holds Nerve, and no line of class Boundary"):
        read_boundary(written(tmp_path, traced({"name": "Nerve"})), dermis.shape, READ)


def test_a_point_without_a_class_is_still_no_line(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="a geometry of type Point, not a line"):
        read_nerves(written(tmp_path, traced(None, "Point", [1, 1])), (96, 128), READ)
