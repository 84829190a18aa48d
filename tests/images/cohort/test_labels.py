"""Traced nerves, boundary lines and the dermis they enclose, on drawn arrays."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import LabelError
from skinray.images.cohort.boundary_line import trace_line
from skinray.images.cohort.dermis_fill import dermis_from_boundary
from skinray.images.cohort.labels import read_boundary, read_nerves
from skinray.images.cohort.polylines import draw_line
from skinray.images.read import read_mask

READ = ReadSettings()
SHAPE = (120, 160)


def write_mask(path: Path, mask: np.ndarray) -> Path:
    Pillow.fromarray((mask > 0).astype(np.uint8) * 255).save(path, "PNG")
    return path


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def line(*points: tuple[float, float]) -> dict[str, object]:
    return {"type": "LineString", "coordinates": [list(point) for point in points]}


def feature(geometry: object) -> dict[str, object]:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": "traced 3"}}


# --- nerves ---------------------------------------------------------------------------------


def test_a_polyline_is_drawn_three_pixels_wide(tmp_path):
    path = write_json(tmp_path / "n.geojson", line((10.2, 20.9), (30.9, 20.1)))
    mask = read_nerves(path, SHAPE, READ)
    assert mask.shape == SHAPE
    assert mask.dtype == bool
    rows = np.flatnonzero(mask[:, 20])
    assert rows.tolist() == [19, 20, 21]
    columns = np.flatnonzero(mask[20])
    assert columns.min() in (9, 10)
    assert columns.max() in (30, 31)


def test_half_a_pixel_is_the_middle_of_the_first_one(tmp_path):
    path = write_json(tmp_path / "n.geojson", line((10.5, 20.5), (31.5, 24.5)))
    expected = np.zeros(SHAPE, bool)
    draw_line(expected, np.array([[10.0, 20.0], [31.0, 24.0]]), 3)
    assert np.array_equal(read_nerves(path, SHAPE, READ), expected)


def test_a_vertex_keeps_its_place_within_the_pixel(tmp_path):
    """A line that rises from y = 20.1 to 20.9 lies in row 20 throughout, but not in its middle."""
    path = write_json(tmp_path / "n.geojson", line((10.5, 20.1), (110.5, 20.9)))
    mask = read_nerves(path, SHAPE, READ, width_px=2)
    assert np.flatnonzero(mask[:, 12]).tolist() == [19, 20]
    assert np.flatnonzero(mask[:, 108]).tolist() == [20, 21]


def test_the_width_is_an_argument(tmp_path):
    path = write_json(tmp_path / "n.json", line((50, 10), (50, 90)))
    assert read_nerves(path, SHAPE, READ, width_px=1)[40].sum() == 1
    assert read_nerves(path, SHAPE, READ, width_px=5)[40].sum() == 5


def test_every_container_of_geojson_gives_the_same_mask(tmp_path):
    first, second = line((5, 5), (50, 60)), line((100, 10), (90, 100), (20, 110))
    multi = {
        "type": "MultiLineString",
        "coordinates": [first["coordinates"], second["coordinates"]],
    }
    containers = [
        multi,
        feature(multi),
        [feature(first), feature(second)],  # as QuPath exports without "FeatureCollection"
        {"type": "FeatureCollection", "features": [feature(first), feature(second)]},
        {"type": "GeometryCollection", "geometries": [first, second]},
    ]
    masks = [
        read_nerves(write_json(tmp_path / f"{n}.geojson", value), SHAPE, READ)
        for n, value in enumerate(containers)
    ]
    assert masks[0].any()
    for mask in masks[1:]:
        assert np.array_equal(mask, masks[0])


def test_a_third_coordinate_and_a_byte_order_mark_are_ignored(tmp_path):
    path = tmp_path / "n.geojson"
    text = json.dumps({"type": "LineString", "coordinates": [[5, 5, 0], [5, 50, 0]]})
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert read_nerves(path, SHAPE, READ)[20, 5]


def test_no_lines_are_an_empty_mask(tmp_path):
    path = write_json(tmp_path / "n.geojson", {"type": "FeatureCollection", "features": []})
    assert not read_nerves(path, SHAPE, READ).any()


def test_a_mask_is_used_as_it_is(tmp_path):
    mask = np.random.default_rng(0).random(SHAPE) > 0.9
    assert np.array_equal(read_nerves(write_mask(tmp_path / "n.png", mask), SHAPE, READ), mask)


def test_a_mask_of_another_size_names_both_sizes(tmp_path):
    path = write_mask(tmp_path / "n.png", np.zeros((1200, 1600)))
    message = (
        f"{path}: mask 1600x1200 does not match image 1536x1024: "
        "export both at the same magnification"
    )
    with pytest.raises(LabelError) as caught:
        read_nerves(path, (1024, 1536), READ)
    assert str(caught.value) == message


def test_a_mask_with_swapped_sides_names_the_remedy(tmp_path):
    path = write_mask(tmp_path / "n.png", np.zeros((60, 40)))
    with pytest.raises(LabelError, match="mask 40x60 does not match image 60x40: turn the mask"):
        read_nerves(path, (40, 60), READ)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"type": "Polygon", "coordinates": []}, "a geometry of type Polygon"),
        ({"type": "LineString"}, "LineString without coordinates"),
        ({"type": "Feature", "geometry": None}, "a geometry of type null"),
        ({"type": "Feature"}, "Feature without geometry"),
        ({"lines": []}, "a geometry of type None"),
        ([1, 2], "a geometry of type int"),
        (line((5, 5)), "a line of one point"),
        (line((5, 5), (5, 400)), "reaches x=5, y=400, outside the image"),
        ({"type": "LineString", "coordinates": [["a", "b"], [1, 2]]}, "not x, y pairs"),
        ({"type": "LineString", "coordinates": [1, 2, 3]}, "not x, y pairs"),
        ({"type": "LineString", "coordinates": [[1], [2]]}, "not x, y pairs"),
        ({"type": "LineString", "coordinates": [[1, 2], [3, float("nan")]]}, "not x, y pairs"),
        ({"type": "LineString", "coordinates": [[1, 2], [3, 10**400]]}, "not x, y pairs"),
        ({"type": "MultiLineString", "coordinates": {"a": 1}}, "not x, y pairs"),
    ],
)
def test_geojson_without_lines_in_the_image(tmp_path, value, reason):
    path = write_json(tmp_path / "n.geojson", value)
    with pytest.raises(LabelError, match=reason) as caught:
        read_nerves(path, SHAPE, READ)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["{", "[1,", '{"type": "x"}]', "[" * 5000, b"{\xff\xfe"])
def test_text_that_is_not_json(tmp_path, text):
    path = tmp_path / "n.geojson"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LabelError, match=r"not valid JSON.*export it again"):
        read_nerves(path, SHAPE, READ)


scraps = st.one_of(
    st.none(), st.floats(), st.text(max_size=3), st.lists(st.floats(-20, 200), max_size=3)
)
json_values = st.recursive(
    scraps,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.fixed_dictionaries(
            {
                "type": st.one_of(inner, st.sampled_from(["LineString", "MultiLineString"])),
                "coordinates": inner,
            }
        ),
        st.fixed_dictionaries({"type": st.just("Feature"), "geometry": inner}),
    ),
    max_leaves=6,
)


@given(value=json_values)
@settings(max_examples=100, deadline=None)
def test_any_json_is_drawn_or_refused(tmp_path_factory, value):
    path = write_json(tmp_path_factory.getbasetemp() / "any.geojson", [value])
    try:
        mask = read_nerves(path, SHAPE, READ)
    except LabelError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert mask.shape == SHAPE


# --- the boundary line ----------------------------------------------------------------------


def wave(shape: tuple[int, int], phase: float = 0.0, depth: float = 18) -> np.ndarray:
    """An undulating boundary across the image, as x, y."""
    x = np.arange(2, shape[1] - 2, 1.0)
    return np.stack([x, shape[0] / 2 + depth * np.sin(x / 9 + phase)], axis=1)


def drawn(points: np.ndarray, shape: tuple[int, int], width: int = 3) -> np.ndarray:
    mask = np.zeros(shape, bool)
    draw_line(mask, np.floor(points), width)
    return mask.astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_geojson_boundary_is_its_points(tmp_path):
    points = [(0.0, 60.0), (80.0, 50.0), (159.5, 61.0)]
    path = write_json(tmp_path / "b.geojson", feature(line(*points)))
    assert np.array_equal(read_boundary(path, SHAPE, READ), points)


def test_several_lines_are_not_a_boundary(tmp_path):
    path = write_json(tmp_path / "b.geojson", [line((0, 1), (2, 3)), line((4, 5), (6, 7))])
    with pytest.raises(LabelError, match="holds 2 lines"):
        read_boundary(path, SHAPE, READ)


def test_no_line_and_an_inverted_one_say_what_to_do(tmp_path):
    path = write_json(tmp_path / "b.geojson", {"type": "FeatureCollection", "features": []})
    with pytest.raises(LabelError, match="holds no line: draw the boundary line"):
        read_boundary(path, SHAPE, READ)
    mask = np.ones(SHAPE, bool)
    mask[49:52] = False
    with pytest.raises(LabelError, match=r"marks 9\d% of the image: invert it"):
        read_boundary(write_mask(tmp_path / "b.png", mask), SHAPE, READ)


def test_lines_are_no_mask_and_objects_no_points(tmp_path):
    path = write_json(tmp_path / "b.geojson", feature(line((0, 1), (2, 3))))
    with pytest.raises(LabelError, match=r"GeoJSON or other JSON.*give a mask image"):
        read_mask(path)
    wrong = {"type": "LineString", "coordinates": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}
    with pytest.raises(LabelError, match="whose coordinates are not x, y pairs"):
        read_boundary(write_json(tmp_path / "c.geojson", feature(wrong)), SHAPE, READ)


def test_a_drawn_line_is_ordered_from_end_to_end(tmp_path):
    mask = np.zeros(SHAPE, bool)
    mask[49:52, 20:140] = True
    points = read_boundary(write_mask(tmp_path / "b.png", mask), SHAPE, READ)
    assert np.allclose(points[:, 1], 50.5)  # the middle of row 50
    steps = np.diff(points[:, 0])
    assert (steps == steps[0]).all()
    assert abs(steps[0]) == 1
    assert {round(points[:, 0].min()), round(points[:, 0].max())} <= {20, 21, 22, 138, 139, 140}


@pytest.mark.parametrize("width", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("phase", [0.0, 2.0])
def test_a_drawn_wave_is_followed_along_its_middle(tmp_path, width, phase):
    truth = wave(SHAPE, phase)
    path = write_mask(tmp_path / "b.png", drawn(truth, SHAPE, width))
    points = read_boundary(path, SHAPE, READ)
    gaps = np.hypot(*(points[:, None] - truth[None]).T).min(axis=0)  # of each point to the truth
    assert gaps.max() <= 2.0
    length = np.hypot(*np.diff(truth, axis=0).T).sum()
    traced = np.hypot(*np.diff(points, axis=0).T).sum()
    assert traced == pytest.approx(length, rel=0.12)


def test_specks_beside_the_line_are_ignored(tmp_path):
    mask = drawn(wave(SHAPE), SHAPE)
    mask[3, 3] = mask[110, 40] = 1
    assert len(read_boundary(write_mask(tmp_path / "b.png", mask), SHAPE, READ)) > 100


def ring() -> np.ndarray:
    return cv2.circle(np.zeros(SHAPE, np.uint8), (80, 60), 40, 1, 3)


def branch() -> np.ndarray:
    mask = drawn(wave(SHAPE, depth=0), SHAPE)
    return cv2.line(mask, (80, 60), (80, 110), 1, 3)


def pieces() -> np.ndarray:
    mask = drawn(wave(SHAPE, depth=0), SHAPE)
    mask[:, 70:90] = 0
    return mask


def area() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[60:] = 1
    return mask


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (ring, "forms a ring"),
        (branch, "branches"),
        (pieces, "in 2 pieces"),
        (area, r"an area \(up to"),
        (lambda: np.zeros(SHAPE), "contains no boundary line"),
    ],
)
def test_drawings_that_are_not_one_open_line(tmp_path, draw, reason):
    path = write_mask(tmp_path / "b.png", draw())
    with pytest.raises(LabelError, match=reason) as caught:
        read_boundary(path, SHAPE, READ)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_drawn_width_is_exact():
    for width in (1, 3, 5):
        mask = np.zeros(SHAPE, bool)
        draw_line(mask, np.array([[20.0, 50.0], [120.0, 50.0]]), width)
        assert mask[:, 60].sum() == width
        assert mask.sum() <= width * (101 + width)
        slanted = np.zeros(SHAPE, bool)
        draw_line(slanted, np.array([[20.0, 10.0], [110.0, 47.0]]), width)
        if width > 1:  # the thinnest line is a chain of pixels, whatever its slope
            assert slanted.sum() == pytest.approx(width * np.hypot(90, 37), rel=0.1)


def test_lines_are_clipped_to_the_mask():
    mask = np.zeros(SHAPE, bool)
    draw_line(mask, np.array([[-30.0, 10.0], [300.0, 10.0], [300.0, 300.0]]), 3)
    assert np.array_equal(np.flatnonzero(mask.any(axis=1)), [9, 10, 11])
    assert mask[10].all()


def test_a_line_over_a_whole_biopsy_is_traced_quickly(tmp_path):
    shape = (1200, 1600)
    path = write_mask(tmp_path / "b.png", drawn(wave(shape, depth=150), shape))
    assert len(read_boundary(path, shape, READ)) > 1600


# --- the dermis -----------------------------------------------------------------------------


def below(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Truth for a boundary that is a function of x over the whole width."""
    heights = np.interp(np.arange(shape[1]), points[:, 0], points[:, 1])
    return np.arange(shape[0])[:, None] >= np.floor(heights)


def test_a_straight_line_halves_the_image_exactly():
    across = np.array([[0.0, 40.0], [160.0, 40.0]])
    bottom = dermis_from_boundary(across, SHAPE, "bottom")
    expected = np.zeros(SHAPE, bool)
    expected[40:] = True
    assert np.array_equal(bottom, expected)
    top = dermis_from_boundary(across, SHAPE, "top")
    assert (top | bottom).all()
    assert np.flatnonzero((top & bottom)[:, 80]).tolist() == [40]  # the line is of both
    upright = np.array([[70.0, 120.0], [70.0, 0.0]])
    assert np.array_equal(dermis_from_boundary(upright, SHAPE, "left")[5], np.arange(160) <= 70)
    assert np.array_equal(dermis_from_boundary(upright, SHAPE, "right")[5], np.arange(160) >= 70)


def test_short_ends_are_extended_along_their_tangent():
    slanted = np.array([[40.0, 50.0], [120.0, 70.0]])
    bottom = dermis_from_boundary(slanted, SHAPE, "bottom")
    truth = np.arange(120)[:, None] >= 40 + np.arange(160) / 4
    assert dice(bottom, truth) > 0.99
    assert bottom[41, 0]
    assert not bottom[38, 0]


def test_a_point_of_the_dermis_names_the_side():
    points = wave(SHAPE)
    assert np.array_equal(
        dermis_from_boundary(points, SHAPE, "80,115"), dermis_from_boundary(points, SHAPE, "bottom")
    )
    assert np.array_equal(
        dermis_from_boundary(points, SHAPE, "80, 3"), dermis_from_boundary(points, SHAPE, "top")
    )


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_drawn_wave_gives_the_dermis_below_it(tmp_path, width):
    truth = wave(SHAPE)
    path = write_mask(tmp_path / "b.png", drawn(truth, SHAPE, width))
    filled = dermis_from_boundary(read_boundary(path, SHAPE, READ), SHAPE, "bottom")
    assert dice(filled, below(truth, SHAPE)) > 0.99


@given(phase=st.floats(0, 6.28), depth=st.floats(0, 35), reverse=st.booleans())
@settings(deadline=None, max_examples=50)
def test_the_two_sides_make_the_whole_and_mirror(phase, depth, reverse):
    points = wave(SHAPE, phase, depth)
    points = points[::-1] if reverse else points
    bottom = dermis_from_boundary(points, SHAPE, "bottom")
    top = dermis_from_boundary(points, SHAPE, "top")
    assert (top | bottom).all()
    assert (top & bottom).mean() < 0.05
    assert dice(bottom, below(points[::-1] if reverse else points, SHAPE)) > 0.98
    turned = dermis_from_boundary(points[:, ::-1], SHAPE[::-1], "right")
    assert dice(turned.T, bottom) > 0.99


def test_a_papilla_open_at_the_frame_is_enclosed():
    arch = np.array([[40.0, 0.0], [40.0, 70.0], [110.0, 70.0], [110.0, 0.0]])
    inside = dermis_from_boundary(arch, SHAPE, "75,20")
    assert inside[:70, 41:110].all()
    assert not inside[80:].any()
    assert not inside[:, :39].any()


def test_a_slip_of_the_hand_is_cut_off():
    points = np.array([[0.0, 60], [80, 60], [84, 56], [82, 53], [79, 57], [82, 62], [159, 60]])
    assert (
        dice(dermis_from_boundary(points, SHAPE, "bottom"), below(np.array([[0, 60.0]]), SHAPE))
        > 0.99
    )


def spiral() -> np.ndarray:
    turn = np.linspace(0, 12, 200)
    return np.stack([80 + 4 * turn * np.cos(turn), 60 + 4 * turn * np.sin(turn)], axis=1)


def closed() -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 60)
    return np.stack([80 + 40 * np.cos(turn), 60 + 40 * np.sin(turn)], axis=1)


def ends_that_cross() -> np.ndarray:
    return np.array([[60.0, 50.0], [20.0, 100.0], [140.0, 100.0], [100.0, 50.0]])


@pytest.mark.parametrize(
    ("points", "side", "reason"),
    [
        (spiral(), "bottom", "does not divide the image"),
        (closed(), "bottom", "does not divide the image"),
        (ends_that_cross(), "80,110", "does not divide the image.*meets itself near x=80, y=25"),
        (np.array([[70.0, 60], [90, 60]]), "bottom", "too short: it is 20 px long"),
        (np.array([[70.0, 60]]), "bottom", "fewer than two points"),
        (np.array([[70.0, 60], [70, 60]]), "bottom", "fewer than two points"),
        (np.empty((0, 2)), "bottom", "fewer than two points"),
        (np.array([[0.0, np.nan], [160, 60]]), "bottom", "fewer than two points"),
        (wave(SHAPE, depth=0), "left", "does not separate left from the opposite side"),
        (wave(SHAPE, depth=0), "30,60", "is on the line"),
        (wave(SHAPE, depth=0), "30,600", "is outside the image"),
        (wave(SHAPE, depth=0), "inwards", "dermis_side 'inwards'"),
        (np.array([[0.0, 0.0], [160.0, 0.0]]), "bottom", "runs along the frame"),
    ],
)
def test_lines_that_cannot_enclose_the_dermis(points, side, reason):
    with pytest.raises(LabelError, match=reason) as caught:
        dermis_from_boundary(points, SHAPE, side, source="b.geojson")
    assert str(caught.value).startswith("b.geojson: ")
    assert str(caught.value).count(": ") >= 2


points_anywhere = st.lists(
    st.tuples(st.floats(-10, 170), st.floats(-10, 130)), min_size=0, max_size=12
)


@given(points=points_anywhere, side=st.sampled_from(["top", "bottom", "left", "right", "20,20"]))
@settings(deadline=None, max_examples=200)
def test_any_line_encloses_a_dermis_or_is_refused(points, side):
    array = np.array(points, np.float64).reshape(-1, 2)
    try:
        filled = dermis_from_boundary(array, SHAPE, side)
    except LabelError:
        return
    assert filled.shape == SHAPE
    assert filled.any()
    assert not filled.all()
    assert side != "20,20" or filled[20, 20]


def longest_contour(dermis: np.ndarray) -> np.ndarray | None:
    """The edge of a dermis inside the frame, if it is one line: x, y in order."""
    contours, _ = cv2.findContours(dermis, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    edge = max(contours, key=len)[:, 0].astype(float)
    inside = ((edge > 2) & (edge < np.array(dermis.shape[::-1]) - 3)).all(axis=1)
    if inside.all() or not inside.any():
        return None
    turn = -int(np.flatnonzero(~inside)[0])
    edge, inside = np.roll(edge, turn, axis=0), np.roll(inside, turn)
    starts = np.flatnonzero(np.diff(inside.astype(int)) == 1)
    return edge[inside] if len(starts) == 1 else None


@pytest.mark.real_data
def test_real_junctions_give_back_their_dermis(real_data):
    """Dermis of real sections: its edge, drawn by 3 px, is filled to the same dermis."""
    scores = []
    for path in sorted((real_data / "skin_pas_dej/masks").glob("*.png"))[:40]:
        codes = np.array(Pillow.open(path).convert("L"))
        dermis = cv2.morphologyEx((codes == 3).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9)))
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(dermis, connectivity=4)
        if count < 2 or not 0.1 < stats[1:, cv2.CC_STAT_AREA].max() / dermis.size < 0.9:
            continue
        largest = (pieces == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
        filled_holes = np.zeros_like(largest)
        outlines, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(filled_holes, outlines, -1, 1, -1)
        edge = longest_contour(filled_holes)
        if edge is None or len(edge) < 100:
            continue
        mask = np.zeros(codes.shape, bool)
        draw_line(mask, edge, 3)
        deep = cv2.distanceTransform(filled_holes, cv2.DIST_L2, 5)
        row, column = np.unravel_index(deep.argmax(), deep.shape)
        line = trace_line(mask, path.name)
        found = dermis_from_boundary(line, codes.shape, f"{column},{row}", path.name)
        scores.append(dice(found, filled_holes > 0))
    assert len(scores) >= 5
    assert min(scores) > 0.98
