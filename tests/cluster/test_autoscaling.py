"""An idle cluster grows for a job and shrinks after it: 0, 2 and 0 pretended GPU nodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.own_cluster import ROOT
from benchmarks.stand_in import drawn_image, stand_in_bundle
from skinray.cli.options import NOT_LEARNED
from skinray.config.base import to_yaml
from skinray.report.biopsies.results import RunResults
from skinray.scoring.overlays import encode_png
from tests.cluster.conftest import small
from tests.support.growing_cluster import GrowingCluster

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(900)]

SHRINK_S, JOB_S = 90, 500
LAYOUTS = {
    "fused": ("layout=fused", "fused.actors=2", "fused.gpus_per_actor=1"),
    "separate": ("layout=separate", "nerve.gpus_per_actor=1", "dermis.gpus_per_actor=1"),
}


@pytest.fixture
def cluster() -> Iterator[GrowingCluster]:
    with GrowingCluster(most=2) as growing:
        assert growing.seen("gpus") == [0]
        yield growing


def run(cluster: GrowingCluster, job: str, *options: object) -> str:
    """Run a job that must do all its work; return its output.

    Networks that train for moments may not learn.
    """
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs" / job), *map(str, options)],
        env=cluster.driver_env, cwd=ROOT, capture_output=True, text=True, timeout=JOB_S,
    )  # fmt: skip
    assert done.returncode in (0, NOT_LEARNED), done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def assert_grew_and_shrank(cluster: GrowingCluster) -> None:
    """The cluster had no GPU node, then two, and has none again."""
    took = cluster.wait_for(0, SHRINK_S)
    nodes = cluster.seen("gpus")
    print(f"GPU nodes {nodes}; the last gone {took:.0f} s after the job")
    assert [nodes[0], max(nodes), nodes[-1]] == [0, 2, 0]


def test_a_training_adds_two_gpu_nodes_and_releases_them(
    cluster: GrowingCluster, small_cohort: Path, tmp_path: Path
) -> None:
    settings = small(epochs=2).override({"nerve.main.grid": {}, "dermis.main.grid": {}})
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(to_yaml(settings), encoding="utf-8")
    said = run(cluster, "train_cv.py", "--data", small_cohort, "--out", out, "--recipe", recipe)
    assert "No GPU on the cluster yet; its autoscaler can add up to 2: requesting them." in said
    assert_grew_and_shrank(cluster)
    results = RunResults.load(out)
    assert all(trial.status == "done" for trial in results.trials)
    assert len(results.counts) == 12


@pytest.mark.parametrize("layout", LAYOUTS)
def test_scoring_adds_two_gpu_nodes_and_releases_them(
    cluster: GrowingCluster, layout: str, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for at in range(16):
        (images / f"{at:02d}.png").write_bytes(
            encode_png(drawn_image(at, (300, 400), nerves=at % 5))
        )
    bundle, out = stand_in_bundle(tmp_path / "bundle"), tmp_path / "out"
    chosen = ("resources_timeout_s=120", "images_per_part=2", *LAYOUTS[layout])
    said = run(
        cluster, "score_cohort.py", "--bundle", bundle, "--images", images, "--out", out,
        *(word for setting in chosen for word in ("--set", setting)),
    )  # fmt: skip
    assert "16 of 16 images scored" in said
    assert_grew_and_shrank(cluster)
    rows = pq.read_table(out / "counts.parquet").to_pylist()
    assert [row["status"] for row in rows] == ["ok"] * 16
