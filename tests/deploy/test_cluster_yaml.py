"""``cluster.yaml`` is what Ray accepts, and it keeps what it promises of safety and cost."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
TYPES: dict[str, dict[str, Any]] = CLUSTER["available_node_types"]
WORKERS = {name: kind for name, kind in TYPES.items() if name != CLUSTER["head_node_type"]}
STARTS = [
    command
    for key in ("head_start_ray_commands", "worker_start_ray_commands")
    for command in CLUSTER[key]
    if "ray start" in command
]
# What Ray's AWS provider reads; its schema lets any other key pass, and nothing would use it.
PROVIDER_KEYS = {
    "type", "region", "availability_zone", "cache_stopped_nodes", "use_internal_ips",
    "security_group", "key_pair", "aws_credentials", "cloudwatch",
}  # fmt: skip
# Those of EC2's RunInstances that we use; Ray hands them on unchecked.
NODE_KEYS = {
    "InstanceType", "ImageId", "BlockDeviceMappings", "MetadataOptions", "InstanceMarketOptions",
}  # fmt: skip


def lint(config: dict[str, Any]) -> list[str]:
    """Keys of the provider and of the nodes that nobody reads."""
    found = [f"provider.{key}" for key in config["provider"] if key not in PROVIDER_KEYS]
    for name, kind in config["available_node_types"].items():
        found += [f"{name}.{key}" for key in kind["node_config"] if key not in NODE_KEYS]
    return found


def spot(kind: dict[str, Any]) -> bool:
    market = kind["node_config"].get("InstanceMarketOptions", {})
    return bool(market.get("MarketType") == "spot")


def test_ray_accepts_it() -> None:
    validate_config(prepare_config(deepcopy(CLUSTER)))
    assert lint(CLUSTER) == []


def test_a_misspelt_key_is_caught_by_ray_or_by_the_lint() -> None:
    misspelt = deepcopy(CLUSTER)
    misspelt["idle_timeout_minute"] = 5
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(prepare_config(misspelt))
    misspelt = deepcopy(CLUSTER)
    misspelt["provider"]["use_internal_ip"] = True
    misspelt["available_node_types"]["gpu_spot"]["node_config"]["ImageID"] = "ami-1"
    validate_config(prepare_config(deepcopy(misspelt)))
    assert lint(misspelt) == ["provider.use_internal_ip", "gpu_spot.ImageID"]


def test_every_worker_comes_and_goes_with_the_work() -> None:
    assert CLUSTER["idle_timeout_minutes"] <= 10
    assert all(kind["min_workers"] == 0 for kind in WORKERS.values())
    assert TYPES["head"]["resources"] == {"CPU": 0}
    assert any("GPU" in kind["resources"] for kind in WORKERS.values())
    assert any("GPU" not in kind["resources"] for kind in WORKERS.values())


def test_spot_comes_first_and_on_demand_can_replace_it() -> None:
    assert not spot(TYPES["head"])
    spots = [kind for kind in WORKERS.values() if spot(kind)]
    assert len(spots) == 2
    for kind in spots:
        # Of equal resources, else Ray would choose by fit and never by priority.
        stand_ins = [
            other for other in WORKERS.values()
            if not spot(other) and other["resources"] == kind["resources"]
        ]  # fmt: skip
        assert stand_ins
        assert all(kind["priority"] > other["priority"] for other in stand_ins)


def test_a_token_is_required_and_copied_to_every_node() -> None:
    assert len(STARTS) == 2
    assert all("RAY_AUTH_MODE=token " in command for command in STARTS)
    assert CLUSTER["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"  # noqa: S105
    assert "chmod 600 ~/.ray/auth_token" in CLUSTER["setup_commands"]


def test_nothing_listens_in_public() -> None:
    whole = prepare_config(deepcopy(CLUSTER))
    (head,) = (c for c in whole["head_start_ray_commands"] if "ray start" in c)
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in str(whole)  # noqa: S104
    assert CLUSTER["provider"]["use_internal_ips"] is True
    for kind in TYPES.values():
        assert kind["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert all(d["Ebs"]["Encrypted"] for d in kind["node_config"]["BlockDeviceMappings"])


def test_versions_are_the_pinned_ones() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    (ray,) = re.findall(r"^ray==(\S+)$", pins, re.MULTILINE)
    assert CLUSTER["docker"]["image"].startswith(f"rayproject/ray:{ray}-py3")
    # Also after Ray has filled in its own defaults, which install a nightly wheel.
    commands = str(prepare_config(deepcopy(CLUSTER))["setup_commands"])
    assert "--constraint ~/skinray/constraints.txt ~/skinray" in commands
    assert not re.search(r"nightly|latest|dev0", commands)


def test_a_lost_node_is_known_within_a_minute() -> None:
    (head,) = (command for command in STARTS if "--head" in command)
    period, timeout = (
        int(re.findall(rf"RAY_health_check_{name}_ms=(\d+)", head)[0])
        for name in ("period", "timeout")
    )
    failures = int(re.findall(r"RAY_health_check_failure_threshold=(\d+)", head)[0])
    assert (period + timeout) * failures < 60_000


def test_the_guide_names_what_is_to_be_filled_in() -> None:
    guide = (ROOT / "docs" / "guides" / "cloud.md").read_text(encoding="utf-8")
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    left = set(re.findall(r"\S*CHANGE-ME\S*", text.partition("cluster_name")[2]))
    assert left == {"fs-CHANGE-ME.efs.eu-central-1.amazonaws.com:/"}
    assert "fs-CHANGE-ME" in guide
