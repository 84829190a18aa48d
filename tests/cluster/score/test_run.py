"""A cohort is scored: a row for every input, equal to the bundle's own predictions."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks.stand_in import stand_in_bundle
from skinray.config.scoring import ScoreSettings
from skinray.errors import BundleError, CohortError, ResourcesError, SettingsError
from skinray.images.read import read_image
from skinray.learning.bundle import load
from skinray.learning.bundle.gate import MOST_APART
from skinray.learning.bundle.info import read_info
from skinray.models.backends import BACKENDS
from skinray.scoring.run_store import LocalOutput
from tests.support.commands import Command
from tests.support.scored_cohorts import bad_files, sound_image, write

pytestmark = pytest.mark.ray

SMALL = ScoreSettings(images_per_part=4, backend="eager").override({"fused.actors": 1})
Score = Callable[..., Any]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-eight valid images, copies of two of them, and twenty bad files."""
    folder = tmp_path_factory.mktemp("images") / "cohort"
    write(folder, dict(sound_image(at) for at in range(28)))
    write(folder, {name: data for name, (data, _) in bad_files().items()})
    shutil.copy(folder / "003.tiff", folder / "000 again.tiff")
    (folder / "below").mkdir()
    shutil.copy(folder / "005.jpeg", folder / "below" / "005.png")
    (folder / "notes.txt").write_text("no image")
    Path(os.fsdecode(os.fsencode(folder) + b"/n\xe4m.png")).write_bytes(sound_image(0)[1][::-1])
    return folder


@pytest.fixture(scope="module")
def score(ray_session: Any, bundle: Path) -> Score:
    """Score in the Ray session that all tests share."""
    from skinray.cluster.score.run import score as run

    def call(images: object, out: Path, settings: ScoreSettings = SMALL, **options: Any) -> Any:
        with Path(os.devnull).open("w") as nowhere:
            console = Console(file=nowhere)
            return run(bundle, str(images), out, settings, console=console, **options)

    return call


@pytest.fixture(scope="module")
def scored(score: Score, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    totals = score(images, out)
    assert (totals.scored, totals.failures) == (30, 21)
    return out


def counts(out: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(out / "counts.parquet").to_pylist()
    return rows


def tables(out: Path) -> list[Any]:
    return [pq.read_table(out / f"{name}.parquet") for name in ("counts", "crossings")]


def computed(out: Path) -> list[str]:
    lines = [log.read_text(encoding="utf-8") for log in (out / "computed").iterdir()]
    return "".join(lines).splitlines()


@pytest.mark.parametrize("layout", ["fused", "separate"])
def test_a_backend_is_chosen_on_the_first_images_and_every_row_names_it(
    score: Score, scored: Path, images: Path, tmp_path: Path, layout: str
) -> None:
    settings = SMALL.override({"backend": "auto", "layout": layout, "overlays": False})
    score(images, tmp_path / "out", settings)
    found = {row["image"]: row for row in counts(tmp_path / "out") if row["status"] == "ok"}
    expected = {row["image"]: row for row in counts(scored) if row["status"] == "ok"}
    assert found.keys() == expected.keys()
    assert {row["backend"] for row in expected.values()} == {"eager"}
    (backend,) = {row["backend"] for row in found.values()}
    assert backend in BACKENDS
    assert all(abs(found[name]["count"] - expected[name]["count"]) <= MOST_APART for name in found)
    with pytest.raises(SettingsError, match="other settings"):
        score(images, tmp_path / "out", SMALL.override({"overlays": False}), resume=True)


def test_counts_and_coordinates_are_the_bundles_own(
    scored: Path, images: Path, bundle: Path
) -> None:
    model = load(bundle)
    points: dict[str, list[tuple[float, float]]] = {}
    for each in pq.read_table(scored / "crossings.parquet").to_pylist():
        points.setdefault(each["image"], []).append((each["row"], each["column"]))
    rows = [row for row in counts(scored) if row["status"] == "ok"]
    assert len(rows) == 30
    assert len({row["count"] for row in rows}) >= 3
    for row in rows:
        image = read_image(images / row["image"])
        found = model.predict(image.pixels, image.um_per_px).crossings
        assert points.get(row["image"], []) == [tuple(point) for point in found.points.tolist()]
        assert row["count"] == found.count
        assert row["boundary_px"] == found.boundary_px
        assert row["boundary_mm"] == found.boundary_mm
        assert row["density_per_mm"] == found.density_per_mm
        assert row["um_per_px"] == image.um_per_px
        assert (row["height"], row["width"]) == image.pixels.shape[:2]
        assert row["sha256"] == image.sha256
    assert {row["um_per_px"] for row in rows} == {None, 0.25}


def test_every_input_has_one_row_and_bad_ones_a_reason(scored: Path) -> None:
    rows = {row["image"]: row for row in counts(scored)}
    names = [row["image"] for row in counts(scored)]
    assert names == sorted(names)
    assert len(rows) == len(names) == 51
    for name, (_, reason) in bad_files().items():
        assert rows[name]["status"] == "failed"
        assert reason in rows[name]["error"], name
        assert ": " in rows[name]["error"]  # with the remedy
        assert rows[name]["count"] is rows[name]["overlay"] is None
    assert rows["n\\xe4m.png"]["status"] == "failed"


def test_equal_bytes_are_computed_once_and_have_a_row_each(scored: Path) -> None:
    rows = {row["image"]: row for row in counts(scored)}
    again, first = rows["003.tiff"], rows["000 again.tiff"]
    assert (first["duplicate_of"], again["duplicate_of"]) == (None, "000 again.tiff")
    assert rows["below/005.png"]["duplicate_of"] == "005.jpeg"
    own = ("image", "duplicate_of", "overlay", "geojson")
    assert {k: v for k, v in first.items() if k not in own} == {
        k: v for k, v in again.items() if k not in own
    }
    assert len(computed(scored)) == len(set(computed(scored))) == 28
    for row in rows.values():
        if row["status"] == "ok":
            assert row["overlay"] == f"overlays/{row['image']}.jpg"
            assert read_image(scored / row["overlay"]).pixels.size > 0
            features = json.loads((scored / row["geojson"]).read_text())["features"]
            kinds = [f["properties"]["classification"]["name"] for f in features]
            assert kinds.count("Crossing") == row["count"]


def test_the_run_leaves_its_files_and_nothing_else(scored: Path) -> None:
    assert {path.name for path in scored.iterdir()} == {
        "computed", "counts.csv", "counts.parquet", "crossings.parquet", "geojson",
        "listing.parquet", "overlays", "parts", "report.html", "report.json", "run.json",
    }  # fmt: skip
    with (scored / "counts.csv").open(newline="", encoding="utf-8-sig") as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == [
            row["image"] for row in counts(scored)
        ]


@pytest.mark.slow
def test_separate_stages_give_the_same(score: Score, images: Path, scored: Path, tmp_path: Path):
    settings = SMALL.override({"layout": "separate", "images_per_part": 7})
    score(images, tmp_path / "out", settings)
    assert tables(tmp_path / "out") == tables(scored)
    assert len(computed(tmp_path / "out")) == 28


@pytest.mark.slow
def test_resume_scores_what_is_new_or_changed_and_nothing_else(
    score: Score, images: Path, scored: Path, tmp_path: Path
) -> None:
    cohort, out = tmp_path / "in", tmp_path / "out"
    write(cohort, dict(sound_image(at) for at in range(5)))
    score(cohort, out)
    before = computed(out)
    assert len(before) == 5
    with pytest.raises(SettingsError, match="holds a run; add --resume"):
        score(cohort, out)
    write(cohort, {"a new.png": sound_image(7)[1], "zz twin.jpg": sound_image(1)[1]})
    write(cohort, {"002.tif": sound_image(9)[1]})  # another image under an old name
    (cohort / "004.png").unlink()
    score(cohort, out, resume=True)
    assert sorted(computed(out)) == sorted([*before, "002.tif", "a new.png"])
    score(cohort, tmp_path / "anew")
    assert tables(out) == tables(tmp_path / "anew")
    last = counts(out)[-1]
    assert (last["image"], last["duplicate_of"]) == ("zz twin.jpg", "001.jpg")
    with pytest.raises(SettingsError, match="its run had other settings"):
        score(cohort, out, SMALL.override({"um_per_px": 0.5}), resume=True)


def test_a_manifest_gives_subjects_and_scales(score: Score, tmp_path: Path, bundle: Path) -> None:
    cohort, out = tmp_path / "in", tmp_path / "out"
    write(cohort, {"a.png": sound_image(1)[1], "b.tif": sound_image(6)[1], "c.png": b""})
    shutil.copy(cohort / "a.png", cohort / "d.png")
    shutil.copy(cohort / "a.png", cohort / "huge.png")
    (cohort / "manifest.csv").write_text(
        "subject,image,um_per_px\n=S1,b.tif,0.5\nS2,a.png,0.25\nS3,d.png,\nS4,c.png,\n"
        "S5,gone.png,\nS6,../x.png,\nS7,huge.png,20\n"
    )
    settings = SMALL.override({"overlays": False, "read.max_pixels": 1_000_000})
    totals = score(cohort, out, settings)
    rows = counts(out)
    assert [row["image"] for row in rows] == [
        "b.tif", "a.png", "d.png", "c.png", "gone.png", "../x.png", "huge.png",
    ]  # fmt: skip
    assert (totals.scored, totals.failures) == (3, 4)
    assert [row["um_per_px"] for row in rows[:3]] == [0.5, 0.25, None]
    assert rows[2]["duplicate_of"] is None  # the same bytes, but not at the same scale
    assert rows[0]["subject"] == "=S1"
    assert "\n'=S1," not in (out / "counts.csv").read_text()
    assert "b.tif,'=S1," in (out / "counts.csv").read_text()
    assert "correct um_per_px" in rows[6]["error"]
    image = read_image(cohort / "a.png")
    found = load(bundle).predict(image.pixels, 0.25).crossings
    assert (rows[1]["count"], rows[1]["boundary_mm"]) == (found.count, found.boundary_mm)
    assert not (out / "overlays").exists()


@pytest.mark.slow
def test_an_address_is_read_by_the_workers(score: Score, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for at in range(3):
            archive.writestr(f"in/{sound_image(at)[0]}", sound_image(at)[1])
    settings = SMALL.override({"um_per_px": 0.5})
    totals = score(f"zip://in::{tmp_path}/scans.zip", tmp_path / "out", settings)
    assert totals.scored == 3
    assert [row["um_per_px"] for row in counts(tmp_path / "out")] == [0.5] * 3


def test_a_refused_run_leaves_nothing(
    score: Score, images: Path, tmp_path: Path, bundle: Path
) -> None:
    from skinray.cluster.score.run import score as run

    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CohortError, match="no image in it"):
        score(empty, out)
    with pytest.raises(CohortError, match="not found"):
        score(tmp_path / "nowhere", out)
    with pytest.raises(BundleError, match=r"no bundle.json"):
        run(empty, str(images), out, SMALL)
    assert not out.exists()


def test_pools_follow_settings_and_machines() -> None:
    from skinray.cluster.score.pools import Machines, Pool, plan_pools

    laptop, small = Machines(4, 0, 1, 2), Machines(2, 0, 1, 2)
    auto, both = ScoreSettings(), ("nerve", "dermis")
    assert plan_pools(auto, both, laptop, 100).actors == (Pool(2, 2, 1, 0),)
    assert plan_pools(auto, both, laptop, 1).actors == (Pool(1, 1, 1, 0),)
    assert plan_pools(auto, both, small, 100).actors == (Pool(2, 2, 1, 0),)
    assert plan_pools(auto, both, Machines(8, 0, 1, 8), 100).actors == (Pool(8, 8, 1, 0),)
    server = plan_pools(auto, both, Machines(64, 4, 1, 64), 1000)
    assert (server.layout, server.actors) == ("separate", (Pool(4, 4, 1, 0.5),) * 2)
    assert plan_pools(auto, both, Machines(96, 0, 3, 2), 1000).actors == (Pool(96, 96, 1, 0),)
    assert plan_pools(auto, ("skin",), Machines(64, 4, 1, 64), 1000).actors == (Pool(4, 4, 1, 1),)
    separate = auto.override({"layout": "separate", "nerve.actors": 3, "nerve.cpus_per_actor": 2})
    assert plan_pools(separate, both, Machines(32, 0, 1, 32), 100).actors[0] == Pool(3, 3, 2, 0)
    feeding = auto.override({"layout": "separate", "decode_cpus": 3})
    assert plan_pools(feeding, both, Machines(9, 0, 1, 9), 100).actors == (Pool(3, 3, 1, 0),) * 2
    with pytest.raises(ResourcesError, match="layout separate needs at least 3 and 0"):
        plan_pools(auto.override({"layout": "separate"}), both, small, 10)
    with pytest.raises(ResourcesError, match=r"0 GPUs; layout fused needs at least 1 and 1"):
        plan_pools(auto.override({"fused.gpus_per_actor": 1}), both, laptop, 10)


def test_pools_start_with_what_fits_and_grow_to_what_is_asked_for() -> None:
    from skinray.cluster.score.pools import Machines, Pool, plan_pools

    both = ("nerve", "dermis")
    asked = ScoreSettings().override({"nerve.actors": 6, "dermis.actors": 3})
    growing, fixed = (Machines(8, 1, 2, 2, grows) for grows in (True, False))
    assert plan_pools(asked, both, growing, 100).actors == (Pool(1, 6, 1, 0.5), Pool(1, 3, 1, 0.5))
    assert plan_pools(asked, both, growing, 4).actors == (Pool(1, 4, 1, 0.5), Pool(1, 3, 1, 0.5))
    assert plan_pools(asked, both, fixed, 100).actors == (Pool(1, 1, 1, 0.5),) * 2
    assert plan_pools(ScoreSettings(), both, growing, 100).actors == (Pool(1, 1, 1, 0.5),) * 2
    alone = asked.override({"dermis.gpus_per_actor": 0})  # the nerves have the whole GPU
    assert plan_pools(alone, both, growing, 100).actors == (Pool(2, 6, 1, 0.5), Pool(3, 3, 1, 0))
    fused = asked.override({"layout": "fused", "fused.actors": 9, "fused.gpus_per_actor": 0})
    assert plan_pools(fused, both, growing, 100).actors == (Pool(8, 9, 1, 0),)


def test_ray_data_is_given_both_sizes_of_every_pool_and_time_for_large_images(
    monkeypatch: pytest.MonkeyPatch, bundle: Path
) -> None:
    import ray.data

    from skinray.cluster.score import pipeline
    from skinray.cluster.score.pools import Machines, Pool, Pools

    given: list[tuple[int, int, int, float]] = []
    timeouts: list[float] = []

    class Images:
        def map_batches(self, *_: Any, **options: Any) -> Images:
            if "compute" in options:
                pool = options["compute"]
                given.append(
                    (pool.min_size, pool.max_size, options["num_cpus"], options["num_gpus"])
                )
            return self

        def iter_batches(self, **_: Any) -> list[dict[str, Any]]:
            return [{"done": np.array([3])}, {"done": np.array([2])}]

    def data_range(*_: Any, **__: Any) -> Images:
        """Note the context: a dataset keeps the one that it was made in."""
        timeouts.append(ray.data.DataContext.get_current().execution_no_progress_timeout_s)
        return Images()

    monkeypatch.setattr(ray.data, "range", data_range)
    pools = Pools("separate", (Pool(1, 6, 1, 0.5), Pool(2, 2, 1, 0.25)))
    monkeypatch.setattr(pipeline, "plan_pools", lambda *_: pools)
    monkeypatch.setattr(pipeline.ClaimActors, "start", lambda *_: None)
    job: Any = SimpleNamespace(settings=SMALL, info=read_info(bundle), out=None)
    said = StringIO()
    pipeline.run_round(job, 5, Machines(8, 1, 1, 8), Console(file=said))
    assert "5 images processed" in said.getvalue()
    assert given == [(1, 6, 1, 0.5), (2, 2, 1, 0.25)]
    assert timeouts == [pipeline.NO_PROGRESS_S]
    assert ray.data.DataContext.get_current().execution_no_progress_timeout_s != timeouts[0]


def test_a_cluster_may_grow_and_this_machine_alone_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    from skinray.cluster.score.pools import Machines

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{}])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not Machines.at_hand().may_grow
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert Machines.at_hand().may_grow


def test_a_claim_is_kept_and_deadly_images_are_given_up(tmp_path: Path) -> None:
    from skinray.cluster.score.claims import MOST_DEATHS, Claims

    (tmp_path / "keys.txt").write_text("done before\n")
    claims = Claims(LocalOutput(tmp_path))
    assert claims.ask("k", "a") == "mine"
    assert claims.ask("k", "b") == "same"
    assert claims.ask("done before", "a") == "same"
    for _ in range(MOST_DEATHS - 1):
        assert claims.ask("k", "a") == "mine"  # tried again after its worker's death
    assert claims.ask("k", "a") == "deadly"
    claims.ended("a")
    assert claims.ask("k", "a") == "mine"
    shares = [Claims(LocalOutput(tmp_path), number, 3) for number in range(3)]
    assert sum("done before" in share.holders for share in shares) == 1


def test_images_cross_processes_unchanged() -> None:
    from skinray.cluster.score.stages import _from_wire, _to_wire
    from skinray.scoring.score_image import Opened

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)[::-1]
    opened = Opened("a", "i", "k", "s", 0.25, pixels)
    (row,) = _to_wire(opened).to_pylist()
    back = _from_wire(row)
    assert np.array_equal(back.pixels, pixels)
    assert {**vars(back), "pixels": 0} == {**vars(opened), "pixels": 0}


def test_the_cause_is_the_workers_error() -> None:
    from skinray.cluster.score.run import _cause

    trace = (
        "ray::MapWorker(Scorer).submit() (pid=1, ip=127.0.0.1)\n"
        '  File "score_parts.py", line 45, in commit\n'
        "OSError: [Errno 28] No space left on device\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "ray.data.exceptions.UserCodeException: a task of an operator failed.\n"
        "To change retry attempts, configure `ray.data.DataContext` (`retried_io_errors`)."
    )
    assert _cause(RuntimeError(trace)) == "OSError: [Errno 28] No space left on device"
    assert _cause(RuntimeError("plain words")) == "plain words"
    assert _cause(RuntimeError()) == "RuntimeError"


def test_without_a_bundle_the_starter_counts_and_every_row_says_so(
    skinray: Command, ray_session: Any, tmp_path: Path
) -> None:
    name, data = sound_image(0)
    write(tmp_path / "images", {name: data, "b.png": b"no image"})
    out = tmp_path / "out"
    ended = skinray("score", "--images", tmp_path / "images", "--out", out)
    assert ended.code == 0, ended.err
    assert "the starter, untrained on your images" in ended.out
    rows = list(csv.DictReader(StringIO((out / "counts.csv").read_text(encoding="utf-8-sig"))))
    assert [row["status"] for row in rows] == ["ok", "failed"]
    assert all(row["note"].startswith("starter, untrained on your images") for row in rows)
    assert "by the starter, untrained on your images" in (out / "report.html").read_text("utf-8")
