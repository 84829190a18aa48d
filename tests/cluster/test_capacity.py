"""How much fits on a cluster: sums over the resources of its nodes and of those it can add."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from skinray.cluster import ray_internals
from skinray.cluster.capacity import (
    HEAD,
    NODE_TYPE,
    Capacity,
    ResourceBundle,
    capacity,
    side_by_side,
)
from skinray.cluster.ray_internals import autoscaler_config
from skinray.cluster.train.resources import Resources, plan
from skinray.config.training import ClusterSettings

ROOT = Path(__file__).parents[2]
CLOUD: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
ONLY_HEAD = {HEAD: 1.0}


def node(cpus: float, gpus: float = 0) -> ResourceBundle:
    return {"CPU": cpus, "GPU": gpus}


def planned(
    settings: ClusterSettings, gpus: float, *nodes: ResourceBundle, cores: int = 1
) -> Resources:
    return plan(settings, gpus, Capacity((ONLY_HEAD, *nodes)), cores)


def listed(resources: ResourceBundle, kind: str = "", *, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources, "Labels": {NODE_TYPE: kind} if kind else {}}


@pytest.mark.parametrize(
    ("workers", "nodes", "at_once"),
    [
        (2, [node(16, 2)], 1),
        (4, [node(64, 8)], 2),
        (4, [node(16, 1)] * 8, 2),
        (1, [node(16, 1)] * 8, 8),
        (3, [node(16, 2)] * 3, 2),
        (2, [node(16, 1), node(64)], 1),  # never none
    ],
)
def test_gpus_limit_the_trainings_at_once(
    workers: int, nodes: list[ResourceBundle], at_once: int
) -> None:
    assert planned(ClusterSettings(workers=workers), 1, *nodes).at_once == at_once


def test_an_elastic_training_counts_with_its_most_workers() -> None:
    found = planned(ClusterSettings(workers=(1, 4)), 1, node(64, 8))
    assert (found.workers, found.at_once) == ((1, 4), 2)


def test_the_actors_that_augment_take_cpus_too() -> None:
    # 4 GPUs, but of 6 CPUs a training takes one for its worker and one for the actor.
    assert planned(ClusterSettings(), 1, node(6, 4)).at_once == 3
    assert planned(ClusterSettings(data_workers=0), 1, node(6, 4)).at_once == 4
    # On CPUs an actor takes a quarter: 4 x (2 + 2 x 0.25) = 10.
    assert planned(ClusterSettings(workers=2), 0, node(5), node(5)).at_once == 4
    assert planned(ClusterSettings(workers=2), 0, node(5), node(4)).at_once == 3


def test_a_worker_is_placed_together_with_the_actor_that_feeds_it() -> None:
    """Otherwise trainings could fill the cluster and all wait for the CPU of their actor."""
    fed = (1, 1)
    assert Resources(2, 0, (1, 1), 1, fed).worker == {"CPU": 2.25}
    assert Resources(2, 1, (4, 4), 1, fed).worker == {"CPU": 3, "GPU": 1}
    assert Resources(2, 1, (4, 4), 1).worker == {"CPU": 2, "GPU": 1}
    mixed = [node(4, 4), node(4)]
    assert planned(ClusterSettings(), 1, *mixed).at_once == 2
    assert planned(ClusterSettings(data_workers=0), 1, *mixed).at_once == 4
    assert planned(ClusterSettings(cpus_per_worker=4, data_workers=0), 0, *mixed).at_once == 2
    assert planned(ClusterSettings(cpus_per_worker=3), 0, *mixed).at_once == 2


def test_what_needs_no_gpu_goes_to_a_node_without_one() -> None:
    mixed = [node(4, 4), node(4)]
    assert side_by_side(mixed, [{"CPU": 2, "GPU": 1}, {"CPU": 2}]) == 2


def test_the_head_holds_as_many_drivers_as_its_memory_allows() -> None:
    head = {HEAD: 1.0, "memory": 5.5 * (1 << 30)}
    eight = [node(16, 1)] * 8
    assert plan(ClusterSettings(), 1, Capacity((head, *eight))).at_once == 5
    assert plan(ClusterSettings(), 0, Capacity((head, *eight))).at_once == 96  # none is a driver
    small = {HEAD: 1.0, "memory": 1e8}
    assert plan(ClusterSettings(), 1, Capacity((small, *eight))).at_once == 1


def test_a_worker_fits_on_one_node_or_not_at_all() -> None:
    scattered = [node(2, 1)] * 8
    assert side_by_side(scattered, [{"CPU": 4, "GPU": 1}]) == 0
    assert side_by_side(scattered, [{"CPU": 1, "GPU": 2}]) == 0
    assert side_by_side([node(1, 8), node(64)], [{"CPU": 2, "GPU": 1}]) == 0
    assert side_by_side([node(3), node(3)], [{"CPU": 2}]) == 2


@pytest.mark.parametrize(("share", "at_once"), [(0.5, 4), (0.6, 2), (0.25, 8), (0.1, 20)])
def test_a_share_of_a_gpu_comes_from_one_gpu(share: float, at_once: int) -> None:
    settings = ClusterSettings(gpus_per_worker=share)
    assert planned(settings, share, node(64, 2)).at_once == at_once
    assert planned(settings, share, node(64, 1), node(64, 1)).at_once == at_once


def test_the_heads_marker_limits_the_drivers() -> None:
    assert planned(ClusterSettings(data_workers=0), 1, node(4000, 4000)).at_once == 1000
    without = ClusterSettings(data_workers=0)
    assert planned(without, 0, node(4000), node(1)).at_once == 4001
    assert planned(ClusterSettings(), 0, node(4000)).at_once == 3200


def test_one_machine_has_its_cores_and_no_more() -> None:
    def alone(settings: ClusterSettings, cpus: int, cores: int) -> Resources:
        return plan(settings, 0, Capacity(({"CPU": cpus, HEAD: 1.0},)), cores)

    assert alone(ClusterSettings(), 4, 2).at_once == 2
    assert alone(ClusterSettings(cpus_per_worker=4), 4, 2).at_once == 1
    two = ClusterSettings(workers=2)
    assert (alone(two, 4, 2).at_once, alone(two, 4, 2).data_workers) == (1, (1, 1))
    assert alone(two, 16, 16).at_once == 6


def test_data_workers_are_between_one_and_what_is_spare() -> None:
    def of(**settings: Any) -> tuple[int, int]:
        return planned(ClusterSettings(**settings), 1, *[node(16, 1)] * 8).data_workers

    assert of() == (1, 8)  # (128 - 8) // 8 = 15
    assert of(cpus_per_worker=10) == (1, 6)  # (128 - 80) // 8
    assert of(cpus_per_worker=15) == (1, 1)
    assert of(data_workers=3) == (1, 3)
    assert of(data_workers=0) == (0, 0)
    # A single worker on CPUs is a plain function; Ray Data feeds it too.
    plain = planned(ClusterSettings(), 0, node(16))
    assert (plain.nested, plain.data_workers, plain.at_once) == (False, (1, 1), 12)


def test_two_workers_on_cpus_share_the_steps_of_a_network_of_the_bundle() -> None:
    def kept(step: int, settings: ClusterSettings, cpus: int = 4, cores: int = 2) -> Resources:
        return plan(settings, 0, Capacity(({"CPU": cpus, HEAD: 1.0},)), cores, step)

    auto = ClusterSettings()
    assert (kept(4, auto).workers, kept(4, auto).at_once, kept(4, auto).nested) == ((2, 2), 1, True)
    # Too few crops for two, a single core, or no room: one worker, by Ray Train all the same.
    for alone in (kept(2, auto), kept(4, auto, cores=1), kept(4, auto, cpus=2)):
        assert (alone.workers, alone.nested) == ((1, 1), True)
    assert kept(4, ClusterSettings(workers=1)).workers == (1, 1)
    assert kept(8, ClusterSettings(workers=2)).workers == (2, 2)
    assert plan(auto, 1, Capacity((ONLY_HEAD, node(16, 8))), 1, 4).workers == (1, 1)


def test_nodes_that_could_be_added_count() -> None:
    at_rest = capacity([listed(ONLY_HEAD)], CLOUD)
    assert at_rest.gpus() == (0, 12)  # 8 spot and 4 on demand
    assert plan(ClusterSettings(workers=4), 1, at_rest).at_once == 3
    # 16 CPUs a node, at most 12 nodes, of which those without a GPU come first.
    whole = ClusterSettings(cpus_per_worker=16, data_workers=0)
    assert plan(whole, 0, at_rest).at_once == 12
    assert side_by_side(at_rest.at_most({"CPU": 17}), [{"CPU": 17}]) == 0


def test_nodes_that_were_added_do_not_count_twice() -> None:
    gpu = {"CPU": 16.0, "GPU": 1.0}
    nodes = [listed(ONLY_HEAD), listed(gpu, "gpu_spot"), listed(gpu), listed(gpu, alive=False)]
    grown = capacity(nodes, CLOUD)
    assert grown.gpus() == (2, 10)
    assert (len(grown.nodes), grown.room) == (3, 10)
    assert capacity(nodes, CLOUD | {"max_workers": 50}).gpus() == (2, 10)
    small = CLOUD | {"max_workers": 3}
    assert capacity(nodes, small).gpus() == (2, 1)
    assert capacity(nodes, CLOUD | {"max_workers": 2}).gpus() == (2, 0)


def test_without_an_autoscaler_nothing_can_be_added_and_without_a_config_that_is_unknown() -> None:
    nodes = [listed(ONLY_HEAD), listed({"CPU": 16.0})]
    assert capacity(nodes, {}) == Capacity((ONLY_HEAD, {"CPU": 16.0}), (), 0)
    assert capacity(nodes, None).addable is None
    # AWS fills in what a type has only once it is asked to.
    silent = CLOUD | {"available_node_types": {"head": {}, "gpu": {"max_workers": 4}}}
    assert capacity(nodes, silent).addable is None


def test_the_config_is_what_the_monitor_of_this_cluster_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "autoscaler.yaml"
    file.write_text(yaml.safe_dump(CLOUD), encoding="utf-8")
    monitor = [sys.executable, "-u", "/ray/autoscaler/v2/monitor.py"]
    commands = [
        [sys.executable, "other.py", "--gcs-address=10.0.0.1:6379"],
        [*monitor, "--gcs-address=10.0.0.1:1234"],
        [*monitor, "--gcs-address=10.0.0.1:6379", f"--autoscaling-config={file}"],
    ]
    monkeypatch.setattr(ray_internals, "_commands", lambda: iter(commands))
    monkeypatch.delenv("RAY_CLUSTER_NAME", raising=False)
    assert autoscaler_config("10.0.0.1:6379") == CLOUD
    assert autoscaler_config("10.0.0.1:1234") == {}
    assert autoscaler_config("10.0.0.1:5") is None


def test_kuberays_config_is_that_of_the_clusters_resource(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    manifests = (ROOT / "deploy" / "kubernetes" / "raycluster.yaml").read_text(encoding="utf-8")
    (cluster,) = (m for m in yaml.safe_load_all(manifests) if m["kind"] == "RayCluster")
    monkeypatch.setattr(ray_internals, "_commands", lambda: iter([]))
    monkeypatch.setenv("RAY_CLUSTER_NAME", "skinray")
    monkeypatch.delenv("RAY_CLUSTER_NAMESPACE", raising=False)
    namespace = tmp_path / "namespace"
    namespace.write_text("skinray\n", encoding="utf-8")
    monkeypatch.setattr(ray_internals, "POD_NAMESPACE", namespace)
    asked = []

    def get(client: KubernetesHttpApiClient, path: str) -> dict[str, Any]:
        asked.append((client._namespace, path))
        return cluster

    monkeypatch.setattr(KubernetesHttpApiClient, "get", get)
    at_rest = capacity([listed(ONLY_HEAD)], autoscaler_config("10.0.0.1:6379"))
    assert at_rest.gpus() == (0, 8)
    assert asked == [("skinray", "rayclusters/skinray")]
