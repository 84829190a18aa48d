"""Label images as programs export them: read right, or refused with the reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from skinray.config.images import ReadSettings
from skinray.errors import LabelError, SkinrayError
from skinray.images.formats.mask import to_mask
from skinray.images.read import decode_raster, read_mask

HEIGHT, WIDTH = 120, 160
SIZE = (HEIGHT, WIDTH)


def lower() -> np.ndarray:
    """The class fills the lower half."""
    mask = np.zeros(SIZE, bool)
    mask[HEIGHT // 2 :] = True
    return mask


def lines(level: int = 255, width: int = 3) -> np.ndarray:
    """Some traced nerves, uint8."""
    mask = np.zeros(SIZE, np.uint8)
    for x in (30, 75, 120):
        cv2.line(mask, (x, 5), (x + 25, 100), level, width)
    return mask


def three(first: int, second: int, third: int, kind: type = np.uint8) -> np.ndarray:
    """Thirds of three values, from above."""
    return np.repeat(np.array([first, second, third], kind), HEIGHT // 3)[:, None].repeat(WIDTH, 1)


def photo(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 40, 230, cv2.NORM_MINMAX)


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    return saved(Pillow.fromarray(pixels, mode), "PNG")


def jpeg(pixels: np.ndarray, quality: int = 85) -> bytes:
    return saved(Pillow.fromarray(pixels), "JPEG", quality=quality)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def saved(image: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def indexed(index: np.ndarray, *colours: tuple[int, int, int]) -> Pillow.Image:
    image = Pillow.fromarray(index.astype(np.uint8), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def indexed_tiff(index: np.ndarray, *colours: tuple[int, int, int]) -> bytes:
    table = np.zeros((3, 256), np.uint16)
    table[:, : len(colours)] = np.array(colours, np.uint16).T * 257
    return tiff(index.astype(np.uint8), photometric="palette", colormap=table)


def painted(background: tuple[int, ...], *marks: tuple[np.ndarray, tuple[int, ...]]) -> np.ndarray:
    pixels = np.full((*SIZE, len(background)), background, np.uint8)
    for where, colour in marks:
        pixels[where] = colour
    return pixels


WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)
GREEN, BLUE, DARK = (0, 200, 0), (0, 0, 255), (0, 0, 90)
HALF = lower()
ABOVE = np.zeros(SIZE, bool)
ABOVE[:30] = True
STRIPES = np.zeros(SIZE, bool)
STRIPES[:, ::3] = True

SOUND: dict[str, Callable[[], bytes]] = {
    "0 and 255": lambda: png(HALF.astype(np.uint8) * 255),
    "0 and 1": lambda: png(HALF.astype(np.uint8)),
    "1 and 2": lambda: png(HALF.astype(np.uint8) + 1),
    "100 and 101": lambda: png(HALF.astype(np.uint8) + 100),
    "one bit": lambda: png(HALF),
    "16 bits": lambda: png(HALF.astype(np.uint16) * 65535),
    "16 bits, 0 and 1": lambda: tiff(HALF.astype(np.uint16)),
    "int16": lambda: tiff(HALF.astype(np.int16)),
    "int32": lambda: tiff(HALF.astype(np.int32)),
    "uint32, 0 and 255": lambda: tiff(HALF.astype(np.uint32) * 255),
    "int64": lambda: tiff(HALF.astype(np.int64)),
    "float32": lambda: tiff(HALF.astype(np.float32)),
    "float64, 0 and 255": lambda: tiff(HALF * 255.0),
    "fax, group 4": lambda: saved(Pillow.fromarray(HALF), "TIFF", compression="group4"),
    "fax, group 3": lambda: saved(Pillow.fromarray(HALF), "TIFF", compression="group3"),
    "QuPath, dark class": lambda: saved(indexed(HALF, WHITE, (150, 30, 40)), "PNG"),
    "QuPath, TIFF": lambda: indexed_tiff(HALF, WHITE, RED),
    "QuPath, black class": lambda: indexed_tiff(HALF, WHITE, BLACK),
    "half clear on an opaque canvas": lambda: png(
        painted((0, 0, 0, 255), (HALF, (255, 0, 0, 100))), "RGBA"
    ),
    "half clear on white paper": lambda: png(
        painted((255, 255, 255, 255), (HALF, (255, 0, 0, 100))), "RGBA"
    ),
    "palette whose class is half clear": lambda: saved(
        indexed(HALF, WHITE, RED), "PNG", transparency=b"\xff\x5a"
    ),
    "palette whose class is index 0, the rest clear": lambda: saved(
        indexed(~HALF, BLACK, WHITE), "PNG", transparency=1
    ),
    "layer whose colour is off by rounding": lambda: png(
        painted((0, 0, 0, 0), (HALF, (200, 30, 30, 255)), (HALF & STRIPES, (201, 28, 33, 255))),
        "RGBA",
    ),
    "black layer that is off by rounding": lambda: png(
        painted((0, 0, 0, 0), (HALF, (0, 0, 0, 255)), (HALF & STRIPES, (1, 1, 1, 255))), "RGBA"
    ),
    "white beside a dark colour": lambda: png(painted((12, 0, 0), (HALF, WHITE))),
    "a light colour on white": lambda: png(painted(WHITE, (HALF, (255, 180, 180)))),
    "one bit, white is zero, by tifffile": lambda: tiff(HALF, photometric="miniswhite"),
    "palette, both black": lambda: saved(indexed(HALF, BLACK, BLACK), "PNG"),
    "palette, class 3": lambda: saved(indexed(HALF * 3, BLACK, RED, GREEN, BLUE), "PNG"),
    "palette with a clear background": lambda: saved(
        indexed(HALF, WHITE, RED), "PNG", transparency=0
    ),
    "palette of greys": lambda: saved(
        Pillow.fromarray(cv2.GaussianBlur(HALF * np.uint8(255), (0, 0), 1)).convert("P"), "PNG"
    ),
    "red on black": lambda: png(painted(BLACK, (HALF, RED))),
    "dark blue on black": lambda: png(painted(BLACK, (HALF, DARK))),
    "green on white": lambda: png(painted(WHITE, (HALF, GREEN))),
    "yellow on white": lambda: png(painted(WHITE, (HALF, (255, 255, 0)))),
    "white on black, RGB": lambda: png(painted(BLACK, (HALF, WHITE))),
    "white on black, RGB in 16 bits": lambda: tiff(
        painted(BLACK, (HALF, WHITE)).astype(np.uint16) * 257, photometric="rgb"
    ),
    "soft edges": lambda: png(cv2.GaussianBlur(HALF * np.uint8(255), (0, 0), 1.5)),
    "soft edges, red": lambda: png(cv2.GaussianBlur(painted(BLACK, (HALF, RED)), (0, 0), 1)),
    "soft edges, red on white": lambda: png(
        cv2.GaussianBlur(painted(WHITE, (HALF, RED)), (0, 0), 1)
    ),
    "JPEG": lambda: jpeg(HALF * np.uint8(255)),
    "JPEG of low quality": lambda: jpeg(HALF * np.uint8(255), 30),
    "JPEG, red": lambda: jpeg(painted(BLACK, (HALF, RED))),
    "layer, opaque": lambda: png(painted((*BLACK, 0), (HALF, (*RED, 255)))),
    "layer, half transparent": lambda: png(painted((*BLACK, 0), (HALF, (*RED, 128)))),
    "layer, faint": lambda: png(painted((*BLACK, 0), (HALF, (*RED, 40)))),
    "layer, black ink": lambda: png(painted((*BLACK, 0), (HALF, (*BLACK, 255)))),
    "layer, all opaque": lambda: png(painted((*BLACK, 255), (HALF, (*WHITE, 255)))),
    "layer, all half transparent": lambda: png(painted((*BLACK, 128), (HALF, (*WHITE, 128)))),
    "layer, white on black with a clear margin": lambda: png(
        painted((*BLACK, 255), (ABOVE, (*BLACK, 0)), (HALF, (*WHITE, 255)))
    ),
    "grey and alpha": lambda: saved(
        Pillow.fromarray(painted((0, 0), (HALF, (255, 255))), "LA"), "PNG"
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_the_lower_half_is_marked(tmp_path: Path, name: str) -> None:
    found = _read(tmp_path, SOUND[name]())
    edge = slice(HALF.shape[0] // 2 - 2, HALF.shape[0] // 2 + 2)
    soft = "soft" in name or "JPEG" in name or "greys" in name
    wrong = found != HALF
    if soft:
        wrong[edge] = False
    assert not wrong.any()


@pytest.mark.parametrize("level", [255, 1])
@pytest.mark.parametrize("save", [png, tiff])
def test_thin_lines_are_read_to_the_pixel(tmp_path: Path, level: int, save: Callable) -> None:
    assert np.array_equal(_read(tmp_path, save(lines(level))), lines() > 0)


@pytest.mark.parametrize("background", [BLACK, WHITE])
@pytest.mark.parametrize("colour", [RED, GREEN, BLUE])
def test_coloured_lines(tmp_path: Path, background: tuple, colour: tuple) -> None:
    pixels = painted(background, (lines() > 0, colour))
    assert np.array_equal(_read(tmp_path, png(pixels)), lines() > 0)
    found = _read(tmp_path, jpeg(pixels, 95))
    near = cv2.dilate(lines(), np.ones((5, 5), np.uint8)) > 0
    assert not found[~near].any()
    assert found[lines() > 0].mean() > 0.8


def test_a_jpeg_saved_as_png(tmp_path: Path) -> None:
    disc = cv2.circle(np.zeros(SIZE, np.uint8), (80, 60), 40, 255, -1)
    noisy = np.array(Pillow.open(io.BytesIO(jpeg(disc, 60))))
    assert np.unique(noisy).size > 20
    assert (_read(tmp_path, png(noisy)) != (disc > 0)).mean() < 0.005


def test_soft_lines(tmp_path: Path) -> None:
    drawn = np.zeros(SIZE, np.uint8)
    for x in (30, 75, 120):
        cv2.line(drawn, (x, 5), (x + 25, 100), 255, 3, cv2.LINE_AA)
    assert np.array_equal(_read(tmp_path, png(drawn)), drawn > 127)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("save", [png, jpeg, tiff])
def test_one_level(tmp_path: Path, save: Callable, level: int) -> None:
    found = _read(tmp_path, save(np.full(SIZE, level, np.uint8)))
    assert found.all() if level else not found.any()


SPLIT = painted(BLACK, (HALF, RED), (ABOVE, GREEN))
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "0, 128, 255": (lambda: png(three(0, 128, 255)), r"more than two grey levels \(0, 128, 255\)"),
    "0, 1, 255": (lambda: png(three(0, 1, 255)), r"grey levels \(0, 1, 255\)"),
    "0, 254, 255": (lambda: png(three(0, 254, 255)), r"grey levels \(0, 254, 255\)"),
    "0, 1, 2": (lambda: png(three(0, 1, 2)), r"3 values \(0, 1, 2\), none above half"),
    "0, 80, 120": (lambda: png(three(0, 80, 120)), "none above half of white"),
    "0, 1, 2 in 16 bits": (lambda: tiff(three(0, 1, 2, np.uint16)), r"3 values \(0, 1, 2\)"),
    "0, 1, 2 in 32 bits": (lambda: tiff(three(0, 1, 2, np.int32)), r"3 values \(0, 1, 2\)"),
    "0, 128, 255 JPEG": (lambda: jpeg(three(0, 128, 255)), "not a mask|more than two"),
    "0 and 1 JPEG": (lambda: jpeg(HALF.astype(np.uint8)), "none above half of white"),
    "0 and 100 JPEG": (lambda: jpeg(HALF * np.uint8(100)), "none above half of white"),
    "lines of two levels": (
        lambda: png(np.maximum(lines(), np.roll(lines(128), 12, 1))), "more than two grey levels"
    ),
    "probabilities": (
        lambda: tiff(photo()[..., 0].astype(np.float32) / 255), "probability map"
    ),
    "no numbers": (lambda: tiff(np.where(HALF, np.nan, 0).astype(np.float32)), "NaN"),
    "instances": (
        lambda: tiff((np.indices(SIZE).sum(0) // 14).astype(np.uint16)), "19 numbered objects"
    ),
    "instances in 32 bits": (
        lambda: tiff((np.indices(SIZE).sum(0) // 14).astype(np.int32)), "19 numbered objects"
    ),
    "photograph": (lambda: png(photo()), "a photograph"),
    "photograph, JPEG": (lambda: jpeg(photo()), "a photograph"),
    "photograph, grey": (lambda: png(photo()[..., 0]), "a photograph"),
    "photograph, grey in RGB": (lambda: png(photo()[..., [0, 0, 0]]), "a photograph"),
    "overlay": (
        lambda: png(np.where((lines() > 0)[..., None], np.uint8(RED), photo())), "painted on it"
    ),
    "overlay, JPEG": (
        lambda: jpeg(np.where((lines() > 0)[..., None], np.uint8(RED), photo())), "painted on it"
    ),
    "palette, two classes": (
        lambda: saved(indexed(three(0, 1, 2), WHITE, RED, BLUE), "PNG"),
        "2 classes in a palette.*1 painted #ff0000, 2 painted #0000ff",
    ),
    "palette, two classes, no background": (
        lambda: saved(indexed(HALF + 1, BLACK, RED, BLUE), "PNG"), "2 classes in a palette"
    ),
    "palette with a void of 255": (
        lambda: saved(indexed(three(0, 1, 255), *[(at, 0, 99) for at in range(256)]), "PNG"),
        "2 classes in a palette",
    ),
    "palette TIFF, two classes": (
        lambda: indexed_tiff(three(0, 1, 2), WHITE, RED, BLUE), "2 classes in a palette"
    ),
    "red and green": (lambda: png(painted(RED, (HALF, GREEN))), "without a black or white"),
    "red and green on black": (lambda: png(SPLIT), "several colours|more than two"),
    "red and green on white": (
        lambda: png(painted(WHITE, (HALF, RED), (ABOVE, GREEN))), "several colours|more than two"
    ),
    "red and green lines": (
        lambda: png(painted(BLACK, (lines() > 0, RED), (np.roll(lines(), 12, 1) > 0, GREEN))),
        "several colours",
    ),
    "red and white lines": (
        lambda: png(painted(BLACK, (lines() > 0, RED), (np.roll(lines(), 12, 1) > 0, WHITE))),
        "several colours",
    ),
    "red and dark blue": (
        lambda: png(painted(BLACK, (HALF, RED), (ABOVE, DARK))), "several colours"
    ),
    "red and green JPEG": (lambda: jpeg(SPLIT), "several colours|not a mask|more than two"),
    "red and green lines JPEG": (
        lambda: jpeg(
            painted(BLACK, (lines() > 0, RED), (np.roll(lines(), 20, 1) > 0, (0, 255, 0))), 95
        ),
        "several colours",
    ),
    "near hues": (
        lambda: png(painted(BLACK, (HALF, RED), (ABOVE, (255, 128, 0)))), "several colours"
    ),
    "white and pink": (
        lambda: png(painted(BLACK, (HALF, WHITE), (ABOVE, (255, 220, 220)))), "several colours"
    ),
    "hairlines of two levels": (
        lambda: png(np.maximum(lines(255, 1), np.roll(lines(29, 1), 12, 1))), "more than two grey"
    ),
    "hairlines of red and navy": (
        lambda: png(
            painted(BLACK, (lines(width=1) > 0, RED), (np.roll(lines(width=1), 12, 1) > 0, DARK))
        ),
        "several colours",
    ),
    "two dark colours": (
        lambda: png(painted(BLACK, (HALF, (64, 0, 0)), (ABOVE, (0, 64, 0)))), "darker than half"
    ),
    "dark red lines, JPEG": (
        lambda: jpeg(painted(BLACK, (lines() > 0, (110, 0, 0))), 95), "darker than half|none above"
    ),
    "fluorescence in green": (
        lambda: png(np.dstack([0 * photo()[..., 0], photo()[..., 1], 0 * photo()[..., 0]])),
        "a photograph",
    ),
    "reordered palette": (
        lambda: saved(indexed(~HALF, RED, BLACK), "PNG"), "does not say which is background"
    ),
    "inverting palette with soft edges": (
        lambda: saved(
            indexed(
                cv2.GaussianBlur(HALF * np.uint8(255), (0, 0), 1),
                *[(255 - at,) * 3 for at in range(256)],
            ),
            "PNG",
        ),
        "classes in a palette",
    ),
    "int8 of 255": (lambda: tiff(-HALF.astype(np.int8)), "negative values"),
    "layer of two colours": (
        lambda: png(painted((*BLACK, 0), (HALF, (*RED, 255)), (ABOVE, (*BLUE, 255)))),
        "several colours",
    ),
    "layer of two strengths": (
        lambda: png(painted((*BLACK, 0), (HALF, (*RED, 255)), (ABOVE, (*RED, 100)))),
        "levels of transparency",
    ),
    "photograph with a clear corner": (
        lambda: png(np.dstack([photo(), np.where(ABOVE, 0, 255).astype(np.uint8)])),
        "a photograph",
    ),
}  # fmt: skip


def confocal() -> np.ndarray:
    """A dark, noisy channel with a few bright fibres."""
    noise = np.random.default_rng(0).normal(8, 4, SIZE)
    bright = cv2.GaussianBlur(lines(255, 2).astype(np.float32), (0, 0), 1)
    return np.clip(noise + 1.3 * bright, 0, 255).astype(np.uint8)


def faint() -> np.ndarray:
    """Soft lines, every second one fainter than half of white."""
    pixels = np.zeros(SIZE, np.float32)
    for at, x in enumerate(range(10, 150, 20)):
        pixels[10:110, x : x + 2] = (255, 90)[at % 2]
    return np.clip(1.3 * cv2.GaussianBlur(pixels, (0, 0), 0.7), 0, 255).astype(np.uint8)


def numbered() -> np.ndarray:
    """Two hundred fibres, each with a number of its own."""
    pixels = np.zeros(SIZE, np.uint8)
    for at in range(200):
        pixels[2 + 4 * (at // 11), 2 + 14 * (at % 11) : 11 + 14 * (at % 11)] = at + 1
    return pixels


def one_void_pixel() -> np.ndarray:
    pixels = lines(1)
    pixels[5, 5] = 255
    return pixels


def near_hues(*colours: tuple[int, int, int]) -> np.ndarray:
    """Two areas with soft edges."""
    large = np.zeros((480, 640, 3), np.uint8)
    cv2.ellipse(large, (320, 160), (280, 120), 0, 0, 360, colours[0], -1)
    cv2.ellipse(large, (280, 400), (200, 60), 0, 0, 360, colours[1], -1)
    return cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


CLEAR = painted((0, 0, 0, 0), (HALF, (255, 0, 0, 0)))
SUBTLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a confocal channel": (lambda: png(confocal()), "photograph .its background has"),
    "a confocal channel in green": (
        lambda: png(np.dstack([0 * confocal(), confocal(), 0 * confocal()])), "its background has"
    ),
    "faint lines beside bright ones": (lambda: png(faint()), "fainter than half of white"),
    "numbered fibres": (lambda: png(numbered()), "200 numbered objects"),
    "a class of 1 with one void pixel": (
        lambda: png(one_void_pixel()), r"grey levels \(0, 1, 255\)"
    ),
    "red and orange": (lambda: png(near_hues(RED, (255, 128, 0))), "marks of several colours"),
    "blue and violet": (
        lambda: png(near_hues(BLUE, (128, 0, 255))), "marks of several colours"
    ),
    "alpha 0 everywhere": (lambda: png(CLEAR, "RGBA"), "alpha is 0 everywhere"),
    "one bit, white is zero": (
        lambda: saved(Pillow.fromarray(HALF), "TIFF", compression="group4", tiffinfo={262: 0}),
        "0 is white",
    ),
    "a layer of black and of white lines": (
        lambda: png(painted(
            (0, 0, 0, 0), (HALF & STRIPES, (0, 0, 0, 255)), (ABOVE & STRIPES, (255, 255, 255, 255))
        ), "RGBA"),
        "black lines beside others",
    ),
    "a palette of white, then black": (
        lambda: saved(indexed(HALF, WHITE, BLACK), "PNG"), "a palette of white, then black"
    ),
    "two channels without a colour": (
        lambda: tiff(
            np.dstack([HALF * np.uint8(0), HALF * np.uint8(255)]),
            photometric="minisblack", planarconfig="contig",
        ),
        "2 channels without a colour",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SUBTLE)
def test_what_only_looks_like_a_mask_is_named(tmp_path: Path, name: str) -> None:
    make, said = SUBTLE[name]
    with pytest.raises(SkinrayError, match=said):
        _read(tmp_path, make())


def test_a_grey_level_named_in_a_jpeg_has_a_tolerance(tmp_path: Path) -> None:
    pixels = np.where(HALF, 255, 0).astype(np.uint8)
    pixels[10:40, 40:60] = 128
    path = tmp_path / "label"
    path.write_bytes(jpeg(pixels, 95))
    found = read_mask(path, chosen="128")
    assert found[12:38, 42:58].all()
    assert found.sum() < 1.3 * 30 * 20


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mask_is_named(tmp_path: Path, name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(LabelError, match=said) as caught:
        _read(tmp_path, make())
    assert str(caught.value).startswith(f"{tmp_path / 'label'}: ")


@pytest.mark.parametrize(
    ("make", "chosen", "expected"),
    [
        (lambda: saved(indexed(three(0, 1, 2), WHITE, RED, BLUE), "PNG"), "2", three(0, 0, 1)),
        (
            lambda: saved(indexed(three(0, 1, 2), WHITE, RED, BLUE), "PNG"),
            "#ff0000",
            three(0, 1, 0),
        ),
        (lambda: png(three(0, 128, 255)), "128", three(0, 1, 0)),
        (lambda: tiff(three(0, 1, 2, np.int32)), "1", three(0, 1, 0)),
        (lambda: png(SPLIT), "#00c800", ABOVE),
        (lambda: jpeg(SPLIT, 95), "#ff0000", HALF),
        (lambda: png(SPLIT), "#0000ff", np.zeros(SIZE)),
    ],
)
def test_one_class_of_several_can_be_named(
    make: Callable[[], bytes], chosen: str, expected: np.ndarray
) -> None:
    raster = decode_raster(make(), "label", ReadSettings())
    found = to_mask(raster, "label", chosen)
    assert (found != (expected > 0)).mean() < (0.03 if raster.lossy else 1e-9)


@pytest.mark.parametrize(
    ("chosen", "said"), [("Tumor", "not a class of an image"), ("1", "colour")]
)
def test_a_class_that_an_image_cannot_have(chosen: str, said: str) -> None:
    raster = decode_raster(png(SPLIT), "label", ReadSettings())
    with pytest.raises(LabelError, match=said):
        to_mask(raster, "label", chosen)


def _read(tmp_path: Path, data: bytes) -> np.ndarray:
    path = tmp_path / "label"
    path.write_bytes(data)
    found = read_mask(path, ReadSettings())
    assert found.dtype == bool
    assert found.shape == SIZE
    return found


@pytest.mark.parametrize("width", [4, 6, 10])
@pytest.mark.parametrize("how", [cv2.INTER_AREA, cv2.INTER_LINEAR])
def test_a_tracing_shrunk_by_half_is_a_mask(tmp_path: Path, width: int, how: int) -> None:
    whole = lines(width=width)
    half = cv2.resize(whole, (WIDTH // 2, HEIGHT // 2), interpolation=how)
    path = tmp_path / "label"
    path.write_bytes(png(half))
    found = read_mask(path)
    wanted = cv2.resize(whole, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) > 127
    assert np.array_equal(found, wanted)


def test_lines_of_another_class_stay_a_class(tmp_path: Path) -> None:
    mask = lines(width=2)
    cv2.line(mask, (5, 5), (5, 100), 128, 2)
    with pytest.raises(LabelError, match="more than two grey levels"):
        _read(tmp_path, png(mask))


@pytest.mark.parametrize("width", [1, 2, 3])
def test_lines_that_cross_those_of_another_class_are_refused(tmp_path: Path, width: int) -> None:
    """Nerves cross the boundary, so each piece of its line touches one."""
    mask = np.zeros(SIZE, np.uint8)
    cv2.line(mask, (0, 60), (WIDTH, 60), 128, width)
    mask = np.maximum(mask, lines(width=width))
    with pytest.raises(LabelError, match="more than two grey levels"):
        _read(tmp_path, png(mask))


def test_a_colour_is_no_class_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "label"
    path.write_bytes(tiff(HALF.astype(np.float32)))
    with pytest.raises(LabelError, match="no colours, but the class is named '#ffffff'"):
        read_mask(path, chosen="#ffffff")


def test_a_stack_of_masks_is_not_to_be_flattened(tmp_path: Path) -> None:
    path = tmp_path / "classes.tif"
    tifffile.imwrite(path, np.stack([HALF, ~HALF]).astype(np.uint8) * 255)
    with pytest.raises(LabelError, match=r"contains 2 images.*one file for each"):
        read_mask(path)
