"""A cluster on this machine that Ray's autoscaler grows and shrinks by pretended GPU nodes."""

from __future__ import annotations

from typing import Any

from benchmarks.own_cluster import OwnCluster

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider"
HEAD_ID = "f" * 51 + "00000"
IDLE_S = 6


class GrowingCluster(OwnCluster):
    """A head node without CPUs, and up to ``most`` nodes of a pretended GPU each; a context."""

    def __init__(self, most: int = 2) -> None:
        super().__init__(autoscaling={})
        self.autoscaling = _config(self.address, most)
        self.env |= {
            "SKINRAY_PRETENDED_GPUS": "1", "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "1",
        }  # fmt: skip
        self.head_env = {
            "RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        }  # fmt: skip

    def wait_for(self, gpus: int, seconds: float) -> float:
        """Wait until there are so many GPU nodes; return how long that took."""
        return self.wait(lambda: self.seen("gpus")[-1] == gpus, seconds, f"{gpus} GPU nodes")


def _config(address: str, most: int) -> dict[str, Any]:
    return {
        "cluster_name": "growing", "max_workers": most, "upscaling_speed": 10,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {
            "type": "external", "module": f"{PROVIDER}.FakeMultiNodeProvider",
            "gcs_address": address, "launch_multiple": True, "head_node_id": HEAD_ID,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 150_000_000},
                "node_config": {}, "min_workers": 0, "max_workers": most,
            },
        },
        "head_setup_commands": [], "worker_setup_commands": [], "head_start_ray_commands": [],
        "worker_start_ray_commands": [], "setup_commands": [],
        "initialization_commands": [], "file_mounts": {}, "auth": {},
        "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [],
        "rsync_filter": [], "docker": {},
    }  # fmt: skip
