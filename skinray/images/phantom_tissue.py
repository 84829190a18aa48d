"""Painted skin: stratum corneum, epidermis with its cells, dermis with its collagen.

Everything is a concentration of one of three stains: haematoxylin (nuclei), protein
(the pale background) and chromogen (the nerves, and whatever else took it up).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from skinray.images.phantom_junction import Bool, Float, Junction
from skinray.images.phantom_stain import clouds

Canvas = NDArray[np.uint8]
_SUBPIXEL = 4


@dataclass(frozen=True)
class Skin:
    """Layers of a painted field.

    Attributes
    ----------
    below : (H, W) float32, pixels below the surface of the living epidermis.
    corneum : (H, W) float32, 0 at the epidermis to 1 at the outer edge; outside that: air.
    """

    junction: Junction
    below: Float
    corneum: Float

    @property
    def living(self) -> Bool:
        """Dermis and living epidermis."""
        return np.asarray(self.below > 0)

    @property
    def epidermis(self) -> Bool:
        """Living epidermis."""
        return self.living & ~self.junction.dermis


def lay_skin(rng: np.random.Generator, junction: Junction, thickness: float) -> Skin:
    """Lay epidermis and stratum corneum over a junction."""
    height, width = junction.shape
    x = np.arange(width)
    top = np.argmax(junction.dermis, axis=0).astype(np.float64)
    swell = gaussian_filter1d(rng.standard_normal(width + 400), 45)[200 : 200 + width] * 45**0.5
    epidermis = min(150.0, 0.25 * height) * thickness
    surface = gaussian_filter1d(top, 70, mode="nearest") - epidermis * (1 + 0.13 * swell)
    surface = np.minimum(surface, gaussian_filter1d(top, 12, mode="nearest") - 26)
    surface = np.maximum(surface, 8)
    keratin = min(64.0, 0.08 * height) * thickness * (1 + 0.2 * swell)
    row = np.arange(height, dtype=np.float32)[:, None]
    below = row - surface[None, x].astype(np.float32)
    outward = -below / np.maximum(keratin, 6)[None, :].astype(np.float32)
    return Skin(junction, below.astype(np.float32), outward.astype(np.float32))


def paint_skin(rng: np.random.Generator, skin: Skin, clutter: float) -> list[Float]:
    """Return concentrations of haematoxylin, protein and chromogen, each (H, W) float32."""
    shape = skin.junction.shape
    layers = [np.zeros(shape, np.float32) for _ in range(3)]
    _paint_dermis(rng, skin, layers, clutter)
    _paint_epidermis(rng, skin, layers, clutter)
    _paint_corneum(rng, skin, layers)
    _paint_debris(rng, layers, clutter)
    return layers


def _ellipse(
    canvas: Canvas, at: NDArray[np.float64], axes: tuple[float, float], angle: float, value: int
) -> None:
    scale = 1 << _SUBPIXEL
    centre = (round(float(at[0]) * scale), round(float(at[1]) * scale))
    size = (max(1, round(axes[0] * scale)), max(1, round(axes[1] * scale)))
    cv2.ellipse(
        canvas, centre, size, float(np.rad2deg(angle)), 0, 360, value, -1, cv2.LINE_AA, _SUBPIXEL
    )


def _paint_epidermis(
    rng: np.random.Generator, skin: Skin, layers: list[Float], clutter: float
) -> None:
    """Cells with pale borders and nuclei; a dark basal layer with some pigment."""
    shape = skin.junction.shape
    depth, region = skin.junction.depth, skin.epidermis
    cells = _cell_places(rng, skin)
    if not len(cells):
        return
    tone, border = _mosaic(rng, cells, shape)
    nuclei, halo, pigment = (np.zeros(shape, np.uint8) for _ in range(3))
    inward = skin.junction.inward
    for at in cells:
        column, row = int(at[0]), int(at[1])
        out = -float(depth[row, column])
        basal = out < 15
        gx, gy = inward[row, column]
        upright = float(np.arctan2(gy, gx))
        flat = float(np.clip(1 - skin.below[row, column] / 45, 0, 1))
        angle = (
            upright + rng.normal(0, 0.3) + (0 if basal else np.pi / 2 * (rng.random() < 0.4 + flat))
        )
        long = rng.uniform(5.2, 7.4)
        short = long * (rng.uniform(0.45, 0.62) if basal else rng.uniform(0.6, 0.85) - 0.3 * flat)
        if not basal and rng.random() < 0.5:
            _ellipse(halo, at, (long + 2.5, short + 2.2), angle, 150)
        _ellipse(
            nuclei,
            at,
            (long, short),
            angle,
            int(rng.uniform(150, 235) if basal else rng.uniform(80, 185)),
        )
        if not basal:
            _ellipse(
                nuclei,
                at + rng.normal(0, 0.6, 2),
                (0.62 * long, 0.58 * short),
                angle,
                int(rng.uniform(60, 130)),
            )
        if basal and rng.random() < 0.4 * clutter:
            for _ in range(int(rng.integers(2, 7))):
                spot = at + rng.normal(0, [3.2, 3.2])
                _ellipse(
                    pigment,
                    spot,
                    (rng.uniform(0.8, 2.2), rng.uniform(0.8, 1.5)),
                    angle,
                    int(rng.uniform(60, 200)),
                )
    _dendritic_cells(rng, skin, pigment, clutter)
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), 1.0)
    near = np.exp(-np.maximum(-depth, 0) / 22)
    upper = np.clip(1 - skin.below / 30, 0, 1)
    grain = clouds(rng, shape, 3)
    base = 0.105 + 0.05 * near + 0.03 * tone + 0.018 * grain + 0.03 * clouds(rng, shape, 60)
    hide = 1 - 0.65 * halo.astype(np.float32) / 255
    layers[0] += soft * (base * hide * (1 - 0.45 * border))
    layers[0] += soft * nuclei.astype(np.float32) / 255 * (0.62 + 0.07 * grain)
    layers[1] += soft * (0.17 + 0.10 * upper + 0.03 * tone) * hide
    haze = np.maximum(0, 0.035 + 0.03 * clouds(rng, shape, 90) + 0.05 * upper)
    layers[2] += soft * (haze * hide + pigment.astype(np.float32) / 255 * 0.62)


def _cell_places(rng: np.random.Generator, skin: Skin) -> NDArray[np.float64]:
    """Centres (N, 2) of cells: a row along the junction, loosely packed ones above."""
    height, width = skin.junction.shape
    line = skin.junction.line
    basal = line[:: int(rng.integers(10, 13))]
    column, row = np.round(basal).astype(int).T
    out = skin.junction.inward[row.clip(0, height - 1), column.clip(0, width - 1)]
    basal = basal - out * rng.uniform(7, 11, (len(basal), 1))
    step = 18.5
    grid = np.mgrid[0 : height : step * 0.87, 0:width:step].astype(np.float64)
    grid[1, 1::2] += step / 2
    upper = np.stack([grid[1].ravel(), grid[0].ravel()], 1)
    upper += rng.normal(0, 2.9, upper.shape)
    places = np.vstack([basal, upper]).clip(0, [width - 1, height - 1])
    column, row = places.astype(int).T
    depth, below = skin.junction.depth[row, column], skin.below[row, column]
    first = np.arange(len(places)) < len(basal)
    keep = (first & (depth < -3)) | (~first & (depth < -19) & (below > 9))
    return places[keep]


def _mosaic(
    rng: np.random.Generator, cells: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[Float, Float]:
    """Tone of the cell each pixel belongs to (deviation 1) and its border (0 to 1)."""
    seeds = np.full(shape, 255, np.uint8)
    column, row = cells.astype(int).T
    seeds[row, column] = 0
    _, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    tones = rng.standard_normal(int(labels.max()) + 1).astype(np.float32)
    edge = np.zeros(shape, np.float32)
    edge[:, 1:] += labels[:, 1:] != labels[:, :-1]
    edge[1:] += labels[1:] != labels[:-1]
    return cv2.GaussianBlur(tones[labels], (0, 0), 1), cv2.GaussianBlur(
        np.minimum(edge, 1), (0, 0), 0.8
    )


def _dendritic_cells(rng: np.random.Generator, skin: Skin, canvas: Canvas, clutter: float) -> None:
    """Stained cells with short arms in the epidermis, which look like bits of nerve."""
    rows, columns = np.nonzero((skin.junction.depth < -12) & (skin.below > 12))
    if not rows.size:
        return
    for pick in rng.integers(0, rows.size, int(rng.poisson(clutter * rows.size / 16000))):
        at = np.array([columns[pick], rows[pick]], np.float64)
        value = int(rng.uniform(90, 190))
        _ellipse(
            canvas, at, (rng.uniform(3, 4.5), rng.uniform(2.2, 3.2)), rng.uniform(0, np.pi), value
        )
        for angle in rng.uniform(0, 2 * np.pi, int(rng.integers(2, 5))):
            bend = angle + np.cumsum(rng.normal(0, 0.35, 4))
            arm = at + np.cumsum(np.stack([np.cos(bend), np.sin(bend)], 1), 0) * rng.uniform(
                1.8, 3.6
            )
            arm = np.vstack([at, arm])
            cv2.polylines(
                canvas,
                [np.round(arm * 16).astype(np.int32)],
                False,
                value,
                int(rng.integers(1, 3)),
                cv2.LINE_AA,
                4,
            )


def _paint_dermis(
    rng: np.random.Generator, skin: Skin, layers: list[Float], clutter: float
) -> None:
    """Collagen in wavy bundles, finer towards the junction; cells, vessels, elastic fibres."""
    shape = skin.junction.shape
    depth = skin.junction.depth
    soft = cv2.GaussianBlur(skin.junction.dermis.astype(np.float32), (0, 0), 1.0)
    course = 0.9 * clouds(rng, shape, 150) + rng.normal(0, 0.25)
    thick, fine, elastic, nuclei, lumen = (np.zeros(shape, np.uint8) for _ in range(5))
    rows, columns = np.nonzero(skin.junction.dermis)
    if not rows.size:
        return
    area = rows.size
    for canvas, per, length, widths in ((thick, 1500, 90, (4, 10)), (fine, 700, 55, (1, 4))):
        for line in _streams(
            rng, course, rows, columns, area // per, length, depth, canvas is thick
        ):
            value = int(rng.uniform(40, 190))
            cv2.polylines(canvas, [line], False, value, int(rng.integers(*widths)), cv2.LINE_AA, 4)
    for line in _streams(rng, course, rows, columns, int(clutter * area / 9000), 70, depth, False):
        cv2.polylines(
            elastic,
            [line],
            False,
            int(rng.uniform(80, 210)),
            int(rng.integers(2, 4)),
            cv2.LINE_AA,
            4,
        )
    _dermal_cells(rng, skin, course, nuclei, lumen, rows, columns)
    grain = clouds(rng, shape, 4)
    open_space = 1 - 0.85 * cv2.GaussianBlur(lumen, (0, 0), 0.8).astype(np.float32) / 255
    fibres = cv2.GaussianBlur(thick, (0, 0), 0.9).astype(np.float32) / 255
    wisps = cv2.GaussianBlur(fine, (0, 0), 0.7).astype(np.float32) / 255
    stretch = cv2.GaussianBlur(elastic, (0, 0), 0.8).astype(np.float32) / 255
    unevenness = 1 + 0.22 * clouds(rng, shape, 120)
    layers[0] += soft * (0.018 + 0.008 * grain + 0.025 * fibres) * open_space
    layers[0] += soft * nuclei.astype(np.float32) / 255 * 0.7
    body = 0.055 + 0.19 * fibres + 0.13 * wisps + 0.012 * grain
    layers[1] += soft * np.maximum(body * unevenness, 0.01) * open_space
    haze = np.maximum(0, 0.02 + 0.02 * clouds(rng, shape, 100))
    layers[2] += soft * (haze + 0.07 * fibres + 0.06 * wisps + 0.36 * stretch) * open_space
    layers[1] += soft * 0.16 * stretch


def _streams(
    rng: np.random.Generator,
    course: Float,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    many: int,
    length: float,
    depth: Float,
    deep: bool,
) -> list[NDArray[np.int32]]:
    """Wavy lines that follow the angle field ``course``; fixed-point x and y for OpenCV."""
    height, width = course.shape
    pick = rng.integers(0, rows.size, many)
    if deep:
        pick = pick[depth[rows[pick], columns[pick]] > rng.uniform(20, 110, many)]
    at = np.stack([columns[pick], rows[pick]], 1).astype(np.float64)
    own = rng.normal(0, 0.4, len(at))
    wave, phase = rng.uniform(0.3, 0.9, len(at)), rng.uniform(0, 2 * np.pi, len(at))
    trail = [at]
    for step in range(12):
        column = at[:, 0].astype(int).clip(0, width - 1)
        row = at[:, 1].astype(int).clip(0, height - 1)
        angle = course[row, column] + own + wave * np.sin(phase + 1.1 * step)
        at = at + length / 12 * np.stack([np.cos(angle), np.sin(angle)], 1)
        trail.append(at)
    counts = rng.integers(5, 14, len(at))
    lines = np.round(np.stack(trail, 1) * 16).astype(np.int32)
    return [line[:count] for line, count in zip(lines, counts, strict=True)]


def _dermal_cells(
    rng: np.random.Generator,
    skin: Skin,
    course: Float,
    nuclei: Canvas,
    lumen: Canvas,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> None:
    """Fibroblasts along the collagen; capillaries with their round of nuclei."""
    depth = skin.junction.depth
    for pick in rng.integers(0, rows.size, rows.size // 2600):
        row, column = int(rows[pick]), int(columns[pick])
        if depth[row, column] < 7:
            continue
        at, angle = (
            np.array([column, row], np.float64),
            float(course[row, column] + rng.normal(0, 0.4)),
        )
        if rng.random() < 0.75:
            _ellipse(
                nuclei,
                at,
                (rng.uniform(5, 9), rng.uniform(1.4, 2.8)),
                angle,
                int(rng.uniform(110, 220)),
            )
        else:
            _ellipse(
                nuclei,
                at,
                (rng.uniform(3, 4.4), rng.uniform(3, 4)),
                angle,
                int(rng.uniform(150, 240)),
            )
    for pick in rng.integers(0, rows.size, int(rng.poisson(rows.size / 42000))):
        row, column = int(rows[pick]), int(columns[pick])
        if depth[row, column] < 24:
            continue
        at, angle = np.array([column, row], np.float64), rng.uniform(0, np.pi)
        long = rng.uniform(6, 13)
        short = long * rng.uniform(0.4, 0.8)
        _ellipse(lumen, at, (long, short), angle, 255)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for theta in rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))):
            rim = at + turn @ np.array([(long + 2) * np.cos(theta), (short + 2) * np.sin(theta)])
            _ellipse(
                nuclei,
                rim,
                (rng.uniform(3.5, 5), rng.uniform(1.8, 2.8)),
                angle + theta + np.pi / 2,
                int(rng.uniform(140, 225)),
            )


def _paint_corneum(rng: np.random.Generator, skin: Skin, layers: list[Float]) -> None:
    """Wavy lamellae that loosen and flake off towards the outer edge."""
    shape = skin.junction.shape
    out = skin.corneum
    warp = 0.13 * clouds(rng, shape, 70) + 0.05 * clouds(rng, shape, 22)
    place = out + warp
    band = np.sin(place * rng.uniform(20, 30) + 2 * clouds(rng, shape, 120))
    loose = np.clip(place, 0, 1.4)
    flakes = clouds(rng, shape, 30)
    gone = (band < -0.95 + 1.15 * loose + 0.3 * flakes - 0.45) & (place > 0.2)
    inside = (out > 0) & (place < 1 + 0.12 * flakes) & ~gone
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    tone = 1 + 0.25 * band + 0.2 * flakes
    layers[0] += soft * 0.05
    layers[1] += soft * np.maximum(0.30 * tone, 0.05)
    layers[2] += soft * np.maximum(0.22 * tone + 0.1 * clouds(rng, shape, 45), 0.02)


def _paint_debris(rng: np.random.Generator, layers: list[Float], clutter: float) -> None:
    """Specks of dust and precipitate."""
    shape = layers[0].shape
    canvas = np.zeros(shape, np.uint8)
    for _ in range(int(rng.poisson(clutter * shape[0] * shape[1] / 42000))):
        at = rng.uniform(0, 1, 2) * [shape[1], shape[0]]
        _ellipse(
            canvas,
            at,
            (rng.uniform(0.8, 3.2), rng.uniform(0.8, 2.0)),
            rng.uniform(0, np.pi),
            int(rng.uniform(80, 255)),
        )
    layers[2] += 0.55 * canvas.astype(np.float32) / 255
