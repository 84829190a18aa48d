"""The manifests fit their schemas, agree with each other, and give each pod the least it needs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from skinray.cli.main import app

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
CRDS = Path(os.environ.get("SKINRAY_REAL_DATA", ROOT / "../shared/data")).resolve() / "kuberay-crds"
Manifest = dict[str, Any]
MANIFESTS: list[Manifest] = [
    document
    for file in sorted(FOLDER.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]
RAY = {m["kind"]: m for m in MANIFESTS if m["apiVersion"].startswith("ray.io/")}
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8")


def test_the_service_takes_its_tokens_from_a_secret() -> None:
    service = RAY["RayService"]["spec"]
    (application,) = yaml.safe_load(service["serveConfigV2"])["applications"]
    folder, _, name = application["args"]["service"]["tokens"].rpartition("/")
    assert name == "tokens"
    for pod in pods(RAY["RayService"]):
        (secret,) = (v for v in pod["spec"]["volumes"] if v["name"] == "tokens")
        assert secret["secret"] == {"secretName": "skinray-tokens", "defaultMode": 0o440}
        for container in pod["spec"]["containers"]:
            mounts = {m["name"]: m for m in container["volumeMounts"]}
            assert mounts["tokens"] == {"name": "tokens", "mountPath": folder, "readOnly": True}


def cluster_of(manifest: Manifest) -> Manifest:
    """Return the RayCluster's own part of any of the three kinds."""
    spec = manifest["spec"]
    return dict(spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec)


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Every pod template of a manifest."""
    if manifest["kind"] == "StatefulSet":
        yield manifest["spec"]["template"]
    if manifest["apiVersion"].startswith("ray.io/"):
        cluster = cluster_of(manifest)
        yield cluster["headGroupSpec"]["template"]
        yield from (group["template"] for group in cluster["workerGroupSpecs"])
        if "submitterPodTemplate" in manifest["spec"]:
            yield manifest["spec"]["submitterPodTemplate"]


PODS = [pod for manifest in MANIFESTS for pod in pods(manifest)]
CONTAINERS = [container for pod in PODS for container in pod["spec"]["containers"]]


def strict(schema: Any) -> Any:
    """Turn a Kubernetes schema into a JSON schema that knows no keys but its own."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {k: strict(v) for k, v in schema.items() if k != "format"}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        open_ended = "x-kubernetes-preserve-unknown-fields" in schema
        plain.setdefault("additionalProperties", open_ended)
    return plain


def schema_of(kind: str) -> Any:
    file = CRDS / f"{kind.lower()}s.yaml"
    if not file.is_file():
        pytest.skip(f"no schema at {file}: set SKINRAY_REAL_DATA to the folder of real data")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = next(iter(yaml.load_all(file.read_text(encoding="utf-8"), loader)))
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1" and v["served"])
    return strict(version["schema"]["openAPIV3Schema"])


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayService"])
def test_they_fit_the_schemas_of_their_kinds(kind: str) -> None:
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(schema_of(kind))
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(RAY[kind])]
    assert errors == []
    misspelt = deepcopy(RAY[kind])
    (cluster_of(misspelt)["headGroupSpec"])["rayStartParam"] = {}
    assert any("rayStartParam" in error.message for error in validator.iter_errors(misspelt))


def test_the_three_kinds_exist_in_one_namespace() -> None:
    assert set(RAY) == {"RayCluster", "RayJob", "RayService"}
    assert all(m["apiVersion"] == "ray.io/v1" for m in RAY.values())
    (namespace,) = (m for m in MANIFESTS if m["kind"] == "Namespace")
    name = namespace["metadata"]["name"]
    assert {m["metadata"]["namespace"] for m in MANIFESTS if m is not namespace} == {name}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("kind", sorted(RAY))
def test_every_cluster_requires_a_token_and_has_the_pinned_version(kind: str) -> None:
    cluster = cluster_of(RAY[kind])
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"ray=={cluster['rayVersion']}\n" in PINS
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    # KubeRay itself hands out the ports and the address; a loopback dashboard cuts off the jobs.
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"  # noqa: S104


def test_every_pod_has_the_least_rights() -> None:
    assert len(PODS) == 11
    for pod in PODS:
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod["spec"])
        assert not any("hostPath" in volume for volume in pod["spec"].get("volumes", []))
        # Only the head changes its cluster, by the role that KubeRay makes for it.
        if pod["spec"]["containers"][0]["name"] != "ray-head":
            assert pod["spec"]["automountServiceAccountToken"] is False
    helpers = [cluster_of(m)["autoscalerOptions"] for m in RAY.values()]
    for container in [*CONTAINERS, *helpers]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_images_are_of_one_version_and_none_is_the_latest() -> None:
    images = {container["image"] for container in CONTAINERS}
    assert all(re.search(r":\d+\.\d+\.\d+", image) for image in images)
    version = re.findall(r'__version__ = "(.+)"', (ROOT / "skinray/__init__.py").read_text())[0]
    ours = {image for image in images if "skinray" in image}
    assert ours == {f"registry.example/skinray:{version}"}


def test_user_and_image_are_those_of_the_dockerfile() -> None:
    (user,) = re.findall(r"^USER (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ours = [p for p in PODS if "skinray" in p["spec"]["containers"][0]["image"]]
    assert {pod["spec"]["securityContext"]["runAsUser"] for pod in ours} == {int(user)}


def test_claims_secrets_and_labels_that_are_named_exist() -> None:
    (claim,) = (m for m in MANIFESTS if m["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    named = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in PODS
        for volume in pod["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    assert named == {claim["metadata"]["name"]}
    guide = (ROOT / "docs/guides/kubernetes.md").read_text(encoding="utf-8")
    assert "secret generic skinray-redis" in guide
    assert not any(m["kind"] == "Secret" for m in MANIFESTS)
    for pod in PODS:
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "skinray"


def test_what_is_not_allowed_is_denied() -> None:
    policies = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "NetworkPolicy"}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        # An empty `from` lets in everyone.
        assert all(rule.get("from") for rule in spec.get("ingress", [])), name
    outside = policies["front-proxy-to-service"]["ingress"]
    assert sorted(port["port"] for rule in outside for port in rule["ports"]) == [8000, 8080]


def test_the_head_of_the_service_may_be_replaced() -> None:
    options = cluster_of(RAY["RayService"])["gcsFaultToleranceOptions"]
    services = {m["metadata"]["name"] for m in MANIFESTS if m["kind"] == "Service"}
    host, _, port = options["redisAddress"].removeprefix("redis://").partition(":")
    assert host in services
    assert port == "6379"
    assert set(options["redisPassword"]["valueFrom"]) == {"secretKeyRef"}
    assert all("gcsFaultToleranceOptions" not in cluster_of(RAY[k]) for k in RAY if "Serv" not in k)


def test_the_service_is_that_of_the_serve_file() -> None:
    theirs = yaml.safe_load((ROOT / "serve_configs/gpu.yaml").read_text(encoding="utf-8"))
    ours = yaml.safe_load(RAY["RayService"]["spec"]["serveConfigV2"])
    assert ours["http_options"].pop("host") == "0.0.0.0"  # noqa: S104 - within the policy
    assert theirs["http_options"].pop("host") == "127.0.0.1"
    assert ours == theirs
    longest = max(d["graceful_shutdown_timeout_s"] for d in ours["applications"][0]["deployments"])
    for group in cluster_of(RAY["RayService"])["workerGroupSpecs"]:
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > longest


def test_the_jobs_options_exist_on_the_command_line() -> None:
    entry = RAY["RayJob"]["spec"]["entrypoint"].split()
    assert entry[:2] == ["skinray", "train-cv"]
    assert "--resume" in entry, "the job is retried, and must continue where it was"
    assert "cluster.gpus_per_worker=1" in entry, "a cluster at rest has no GPU, so auto means none"
    command = typer.main.get_command(app).commands["train-cv"]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in entry if word.startswith("--")} <= known
