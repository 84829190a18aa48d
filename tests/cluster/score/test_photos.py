"""Photographs are scored by the same run as biopsies: a row each, and the bundle's own masks.

Odd ones too: grey, 16 bits, rotated by EXIF, CMYK, a single pixel, very wide, a single colour.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from rich.console import Console

from benchmarks.stand_in import drawn_image
from skinray.config.scoring import ScoreSettings
from skinray.images.photos.skin import Skin
from skinray.images.read import read_image
from skinray.learning.bundle import load
from skinray.scoring.kinds import AREAS
from tests.support.photo_bundles import photo_bundle
from tests.support.scored_cohorts import (
    CANARY,
    WRITERS,
    bad_files,
    canary_logs,
    sound_image,
    told_all_over,
    told_as_orientation,
    write,
)

pytestmark = pytest.mark.ray


def png(pixels: np.ndarray, mode: str | None = None) -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(pixels, mode).save(stream, "PNG")
    return stream.getvalue()


def cmyk() -> bytes:
    stream = io.BytesIO()
    Pillow.fromarray(drawn_image(3)).convert("CMYK").save(stream, "JPEG", quality=95)
    return stream.getvalue()


def odd_files() -> dict[str, bytes]:
    """Valid but unusual photographs."""
    grey = drawn_image(1)[..., 0]
    return {
        "grey.png": png(grey),
        "grey16.png": png(grey.astype(np.uint16) * 257),
        "cmyk.jpg": cmyk(),
        "pixel.png": png(np.full((1, 1, 3), 90, np.uint8)),
        "wide.png": png(np.random.default_rng(0).integers(0, 256, (3, 20_000, 3), np.uint8)),
        "one colour.png": png(np.full((40, 60, 3), (222, 180, 160), np.uint8)),
        "black.png": png(np.zeros((40, 60, 3), np.uint8)),
    }


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One from every writer (also 16-bit TIFF and rotated by EXIF), odd ones, bad ones."""
    files = dict(sound_image(at) for at in range(len(WRITERS))) | odd_files()
    files |= {name: data for name, (data, _) in bad_files().items()}
    folder = write(tmp_path_factory.mktemp("images") / "cohort", files)
    shutil.copy(folder / "grey.png", folder / "grey again.png")
    return folder


def run(bundle: Path, cohort: Path, out: Path, **changes: Any) -> Any:
    from skinray.cluster.score.run import score

    settings = ScoreSettings(images_per_part=4, backend="eager").override(
        {"fused.actors": 1, **changes}
    )
    with Path(os.devnull).open("w") as nowhere:
        return score(bundle, str(cohort), out, settings, console=Console(file=nowhere))


@pytest.fixture(scope="module")
def scored(
    ray_session: Any, bundle: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    totals = run(bundle, cohort, out)
    assert (totals.scored, totals.failures) == (len(WRITERS) + len(odd_files()) + 1, 20)
    return out


def rows(out: Path) -> dict[str, dict[str, Any]]:
    table = pq.read_table(out / "areas.parquet")
    assert table.schema.equals(AREAS)
    return {row["image"]: row for row in table.to_pylist()}


def test_every_photograph_has_the_bundles_own_area_and_mask(
    scored: Path, bundle: Path, cohort: Path
) -> None:
    found, model = rows(scored), load(bundle, "cpu")
    assert set(found) == {path.name for path in cohort.iterdir()}
    for name, row in found.items():
        if row["status"] != "ok":
            continue
        image = read_image(cohort / name).pixels
        skin = model.predict(image)
        assert isinstance(skin, Skin)
        assert (row["height"], row["width"]) == image.shape[:2]
        assert (row["skin_px"], row["skin_fraction"]) == (skin.mask.sum(), skin.fraction)
        assert row["confidence"] == pytest.approx(float(skin.confidence.mean()), abs=1e-6)
        mask = np.array(Pillow.open(scored / row["mask"]))
        np.testing.assert_array_equal(mask, skin.mask * np.uint8(255))
        assert Pillow.open(scored / row["overlay"]).size[0] <= 1000
    fractions = [row["skin_fraction"] for row in found.values() if row["status"] == "ok"]
    assert sum(0 < fraction < 1 for fraction in fractions) >= len(WRITERS)
    assert len(set(fractions)) >= len(WRITERS)
    assert found["grey again.png"]["duplicate_of"] is None
    assert found["grey.png"]["duplicate_of"] == "grey again.png"


def test_bad_files_say_why(scored: Path) -> None:
    found = rows(scored)
    for name, (_, why) in bad_files().items():
        assert found[name]["status"] == "failed"
        assert why in found[name]["error"]
        assert found[name]["skin_fraction"] is None


def test_csv_and_report_agree(scored: Path) -> None:
    with (scored / "areas.csv").open(newline="", encoding="utf-8-sig") as stream:
        sheet = {line["image"]: line for line in csv.DictReader(stream)}
    for name, row in rows(scored).items():
        cell = sheet[name]["skin_fraction"]
        assert (float(cell) if cell else None) == pytest.approx(row["skin_fraction"], abs=5e-5)
    told = json.loads((scored / "report.json").read_text(encoding="utf-8"))
    ok = [row for row in rows(scored).values() if row["status"] == "ok" and not row["duplicate_of"]]
    assert told["skin_fraction"]["n"] == len(ok)
    assert told["skin_fraction"]["mean"] == pytest.approx(np.mean([r["skin_fraction"] for r in ok]))
    page = (scored / "report.html").read_text(encoding="utf-8")
    assert "Skin in photographs: a scored cohort" in page
    assert page.count("data:image/jpeg;base64,") == 12
    assert not (scored / "crossings.parquet").exists()
    assert not (scored / "counts.csv").exists()


def test_no_metadata_of_photographs_is_written_or_printed(
    ray_session: Any,
    bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of valid photographs, one with text for its orientation, and damaged ones."""
    from skinray.cluster.score.run import score

    whole = told_all_over(drawn_image(5))
    files = {
        "sound.jpg": whole, "name.jpg": told_as_orientation(drawn_image(6)),
        "cut.jpg": whole[: len(whole) * 2 // 3], "broken.jpg": whole[:400] + whole[500:],
    }  # fmt: skip
    assert all(CANARY.encode() in data for data in files.values())
    out, cohort = tmp_path / "out", write(tmp_path / "cohort", files)
    caplog.set_level("DEBUG")
    report = io.StringIO()
    settings = ScoreSettings().override({"fused.actors": 1})
    score(bundle, str(cohort), out, settings, console=Console(file=report))
    states = {name: row["status"] for name, row in rows(out).items()}
    assert (states["sound.jpg"], states["name.jpg"], states["cut.jpg"]) == ("ok", "ok", "failed")
    written = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} >= {
        ".parquet",
        ".csv",
        ".json",
        ".html",
        ".png",
        ".jpg",
    }
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []
    table = pq.read_table(out / "areas.parquet").to_pylist()  # compressed in its file
    said = [report.getvalue(), caplog.text, str(table), *capfd.readouterr()]
    assert [text for text in said if CANARY in text] == []
    for path in written:  # our own pictures have no metadata at all
        if path.suffix in (".png", ".jpg"):
            assert not Pillow.open(path).getexif()
    assert canary_logs(ray_session) == []


def test_separate_stages_give_the_same(
    ray_session: Any, scored: Path, bundle: Path, cohort: Path, tmp_path: Path
) -> None:
    run(bundle, cohort, tmp_path / "out", layout="separate", overlays=False)
    drawn = ("overlay", "mask")
    mine, theirs = (
        {name: {k: v for k, v in row.items() if k not in drawn} for name, row in rows(out).items()}
        for out in (scored, tmp_path / "out")
    )
    assert mine == theirs
