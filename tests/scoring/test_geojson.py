"""Crossings and boundary as QuPath reads them: exact coordinates on drawn masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from skinray.scoring.geojson import edge_lines, to_geojson
from skinray.scoring.overlays import BOUNDARY, CROSSING

NONE = np.zeros((0, 2))


def mask(*rows: str) -> np.ndarray:
    return np.array([[place == "#" for place in row] for row in rows])


def lines(area: np.ndarray) -> list[list[tuple[int, int]]]:
    """Lines as (x, y), each from its smaller end, sorted: their direction does not matter."""
    found = [[tuple(point) for point in line.tolist()] for line in edge_lines(area)]
    return sorted(min(line, line[::-1]) for line in found)


def test_coordinates_are_x_y_at_the_middle_of_the_pixel():
    answer = to_geojson(np.array([[0.0, 0.0], [2.5, 7.25]]), np.zeros((4, 9), bool))
    places = [feature["geometry"] for feature in answer["features"]]
    assert places == [
        {"type": "Point", "coordinates": [0.5, 0.5]},
        {"type": "Point", "coordinates": [7.75, 3.0]},
    ]


def test_coordinates_are_rounded_to_a_thousandth():
    answer = to_geojson(np.array([[1 / 3, 2 / 3]]), np.zeros((4, 9), bool))
    assert answer["features"][0]["geometry"]["coordinates"] == [1.167, 0.833]


def test_a_straight_boundary_runs_from_frame_to_frame():
    area = np.zeros((6, 5), bool)
    area[3:] = True
    answer = to_geojson(NONE, area)
    assert len(answer["features"]) == 1
    geometry = answer["features"][0]["geometry"]
    assert geometry["type"] == "LineString"
    ends = sorted(geometry["coordinates"])
    assert ends == [[x + 0.5, 3.5] for x in range(5)]


@pytest.mark.parametrize("turn", range(4))
def test_dermis_on_any_side(turn):
    area = np.rot90(mask(".....", ".....", "#####", "#####"), turn)
    found = lines(area)
    assert len(found) == 1
    drawn = np.zeros_like(area)
    for x, y in found[0]:
        drawn[y, x] = True
    assert np.array_equal(drawn, np.rot90(mask(".....", ".....", "#####", "....."), turn))


def test_a_corner_of_dermis():
    assert lines(mask("....", "....", "..##", "..##")) == [[(2, 3), (2, 2), (3, 2)]]


def test_an_island_is_a_closed_line():
    found = lines(mask(".....", ".###.", ".###.", ".###.", "....."))
    assert len(found) == 1
    assert found[0][0] == found[0][-1]
    assert set(found[0]) == {(x, y) for x in (1, 2, 3) for y in (1, 2, 3)} - {(2, 2)}


def test_a_hole_has_its_own_line():
    area = np.ones((9, 9), bool)
    area[3:6, 3:6] = False
    found = lines(area)
    assert len(found) == 1
    assert {(x, y) for x, y in found[0]} <= {(x, y) for x in range(2, 7) for y in range(2, 7)}
    assert found[0][0] == found[0][-1]


def test_two_pieces_of_dermis_are_two_lines():
    found = lines(mask(".....", "#...#", "#...#", "....."))
    assert found == []  # all of it is along the frame
    found = lines(mask(".......", "##...##", "##...##", "......."))
    assert [set(line) for line in found] == [
        {(0, 1), (1, 1), (1, 2), (0, 2)},
        {(6, 1), (5, 1), (5, 2), (6, 2)},
    ]


@pytest.mark.parametrize("area", [np.zeros((5, 7), bool), np.ones((5, 7), bool)])
def test_without_an_edge_there_is_no_line(area):
    assert to_geojson(NONE, area) == {"type": "FeatureCollection", "features": []}


def test_qupath_accepts_the_features():
    area = np.zeros((6, 5), bool)
    area[3:] = True
    answer = json.loads(json.dumps(to_geojson(np.array([[3.0, 2.0]]), area)))
    assert [feature["type"] for feature in answer["features"]] == ["Feature", "Feature"]
    assert [feature["properties"] for feature in answer["features"]] == [
        {
            "objectType": "annotation",
            "name": "Crossing 1",
            "classification": {"name": "Crossing", "color": list(CROSSING)},
        },
        {
            "objectType": "annotation",
            "name": "Boundary 1",
            "classification": {"name": "Boundary", "color": list(BOUNDARY)},
        },
    ]


def test_numbers_are_plain_and_lines_are_numbered():
    area = mask("...........", "##...###...", "##...###...", "...........")
    answer = to_geojson(NONE, area)
    assert sorted(f["properties"]["name"] for f in answer["features"]) == [
        "Boundary 1",
        "Boundary 2",
    ]
    for feature in answer["features"]:
        for place in feature["geometry"]["coordinates"]:
            assert all(type(number) is float for number in place)
