"""What a training takes of the cluster: choose it, wait for it, or refuse at once."""

from __future__ import annotations

import io
import math
import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from skinray.cluster import autoscaler
from skinray.cluster.capacity import HEAD, Capacity, logical_cpus, side_by_side
from skinray.cluster.train import resources
from skinray.cluster.train.resources import bundles_of, plan, trial_resources
from skinray.config.training import ClusterSettings
from skinray.errors import ResourcesError
from tests.support.tiny import tiny_spec

pytestmark = pytest.mark.ray


GROWS = Capacity(({HEAD: 1.0},), ({"CPU": 16, "GPU": 1},) * 8, 8)
NOBODY_KNOWS = Capacity(({HEAD: 1.0},), None)


class Offers:
    """A cluster that offers what is requested at the ``after``-th try, or never."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capacity: Capacity, after: float) -> None:
        self.after, self.looks = after, 0
        self.asked: list[list[dict[str, float]]] = []
        self.released = 0
        monkeypatch.setattr(resources, "capacity_at_hand", lambda: capacity)
        monkeypatch.setattr(resources, "alive_nodes", lambda: ({HEAD: 1.0}, {"CPU": 16, "GPU": 1}))
        for module in (resources, autoscaler):
            monkeypatch.setattr(module, "placement_group", self.ask)
            monkeypatch.setattr(module, "remove_placement_group", lambda group: self.release())
        monkeypatch.setattr(resources, "WAITING_SHOWN_EVERY_S", 0.05)

    def ask(self, bundles: list[dict[str, float]]) -> Offers:
        self.asked.append(bundles)
        return self

    def release(self) -> None:
        self.released += 1

    def wait(self, seconds: float) -> bool:
        time.sleep(seconds)
        self.looks += 1
        return self.looks >= self.after


def test_gpus_that_could_be_added_are_requested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Offers(monkeypatch, GROWS, after=1)
    found = trial_resources(ClusterSettings())
    assert (found.gpus_per_worker, found.at_once, found.nested) == (1, 8, True)
    assert cluster.asked == [[{"CPU": 2, "GPU": 1}]]
    said = "No GPU on the cluster yet; its autoscaler can add up to 8: requesting them."
    assert capsys.readouterr().out == said + "\n"


def test_the_run_waits_without_limit_for_what_can_be_added_and_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Offers(monkeypatch, GROWS, after=4)
    trial_resources(ClusterSettings(gpus_per_worker=1, resources_timeout_s=0.01))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(
        line.startswith("Waiting for 1 x (2 CPUs, 1 GPU) for ")
        and line.endswith("its autoscaler can add 8 x (16 CPUs, 1 GPU).")
        for line in lines
    )
    assert cluster.released == len(cluster.asked) == 1


@pytest.mark.parametrize(
    "settings",
    [
        ClusterSettings(gpus_per_worker=2),
        ClusterSettings(gpus_per_worker=1, workers=9),
        ClusterSettings(gpus_per_worker=1, workers=8, cpus_per_worker=16),  # none for the data
        ClusterSettings(gpus_per_worker=0, cpus_per_worker=17),
    ],
    ids=["node too small", "too few nodes", "no CPU for data", "too few CPUs"],
)
def test_what_can_never_be_added_is_refused_at_once(
    settings: ClusterSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Offers(monkeypatch, GROWS, after=3)
    with pytest.raises(ResourcesError, match=r"can never offer .* can add 8 x \(16 .*; lower clus"):
        trial_resources(settings)
    assert cluster.asked == []


def test_without_gpus_and_an_autoscaler_cpus_are_chosen_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = Capacity(({HEAD: 1.0, "CPU": 4.0}, {"CPU": 4.0}), (), 0)
    Offers(monkeypatch, here, after=1)
    assert trial_resources(ClusterSettings()).gpus_per_worker == 0
    assert capsys.readouterr().out == "No GPU here, and none can be added: training on CPUs.\n"


@pytest.mark.parametrize(("after", "gpus"), [(1, 1), (math.inf, 0)], ids=["comes", "does not"])
def test_a_gpu_is_requested_once_if_the_autoscaler_is_unknown(
    after: float, gpus: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    has_cpus = replace(NOBODY_KNOWS, nodes=({HEAD: 1.0}, {"CPU": 16.0}))
    cluster = Offers(monkeypatch, has_cpus, after)
    settings = ClusterSettings(resources_timeout_s=0.2)
    if gpus:
        found = trial_resources(settings)
        assert (found.gpus_per_worker, found.at_once) == (1, 1)
    else:
        monkeypatch.setattr(Offers, "wait", lambda offer, s: offer.asked[-1] == [{"CPU": 1.25}])
        assert trial_resources(settings).gpus_per_worker == 0
    assert cluster.asked[0] == [{"GPU": 1}]
    assert len(cluster.asked) == cluster.released == 2
    said = capsys.readouterr().out
    assert "is unknown. Requesting one and waiting up to 0.2 s." in said
    assert ("A GPU has been added: training on GPUs" if gpus else "No GPU was added") in said


def test_the_wait_is_limited_if_the_autoscaler_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Offers(monkeypatch, NOBODY_KNOWS, math.inf)
    with pytest.raises(
        ResourcesError, match=r"did not offer .* within 0\.3 s.*resources_timeout_s"
    ):
        trial_resources(ClusterSettings(gpus_per_worker=1, resources_timeout_s=0.3))
    assert cluster.released == 1


def test_a_run_that_can_never_get_its_resources_ends_with_the_reason(ray_session: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ResourcesError, match=r"can never offer .*lower cluster\.workers"):
        trial_resources(ClusterSettings(gpus_per_worker=1))
    with pytest.raises(
        ResourcesError,
        match=r"can never offer 4 x \(1\.25 CPUs\).*data_workers=0 .* needs 0\.25 CPU less",
    ):
        trial_resources(ClusterSettings(workers=4, data_workers=1))
    assert time.monotonic() - began < 60


def test_busy_resources_are_waited_for(ray_session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "WAITING_SHOWN_EVERY_S", 1.0)
    busy = ray_session.util.placement_group([{"CPU": 3}])
    assert busy.wait(30)
    release = threading.Timer(4, lambda: ray_session.util.remove_placement_group(busy))
    release.start()
    said = Console(file=io.StringIO())
    settings = ClusterSettings(cpus_per_worker=4, data_workers=0, resources_timeout_s=0.5)
    found = trial_resources(settings, said)
    release.join()
    assert found.cpus_per_worker == 4
    assert "Waiting for 1 x (4 CPUs) for 1 s: " in said.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("cores", [1, 2, 4, 8, 64])
def test_a_training_may_take_all_cores_of_a_machine_and_is_fed_all_the_same(cores: int) -> None:
    here = Capacity(({"CPU": logical_cpus(cores, trains=True), HEAD: 1.0},))
    for cpus in {1, cores}:
        found = plan(ClusterSettings(cpus_per_worker=cpus), 0, here, cores)
        assert found.at_once == cores // cpus
        assert side_by_side(here.nodes, bundles_of(found, 1)) >= found.at_once


@pytest.mark.parametrize(("steps", "workers"), [((4, 8), 2), ((8, 1), 1)])
def test_workers_share_a_bundles_steps_if_the_smallest_has_crops_for_both(
    steps: tuple[int, int], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search may have chosen another batch size for one network than for the other."""
    here = Capacity(({"CPU": 4.0, HEAD: 1.0},))
    monkeypatch.setattr(resources, "capacity_at_hand", lambda: here)
    monkeypatch.setattr(resources.os, "cpu_count", lambda: 2)
    specs = [tiny_spec(step_crops=step) for step in steps]
    found = resources.kept_resources(ClusterSettings(), plan(ClusterSettings(), 0, here), specs)
    assert (found.workers, found.nested) == ((workers, workers), True)


def test_the_default_patience_is_under_a_minute() -> None:
    assert ClusterSettings().resources_timeout_s < 60


def test_one_machine_runs_as_many_trials_as_it_has_cores(ray_session: Any) -> None:
    found = trial_resources(ClusterSettings())
    assert found.at_once == min(4, os.cpu_count() or 1)
    assert not found.nested
    assert found.gpus_per_worker == 0


def test_workers_that_train_together_cannot_share_a_gpu() -> None:
    assert ClusterSettings(gpus_per_worker=0.5).gpus_per_worker == 0.5
    assert ClusterSettings(gpus_per_worker=2, workers=2).gpus_per_worker == 2
    for workers in (2, (1, 2)):
        with pytest.raises(ValidationError, match="share a GPU; use gpus_per_worker=1, or work"):
            ClusterSettings(gpus_per_worker=0.5, workers=workers)
    for gpus in (1.5, -1, float("inf")):
        with pytest.raises(ValidationError, match="gpus_per_worker"):
            ClusterSettings(gpus_per_worker=gpus)
