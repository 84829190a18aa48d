"""The committed Serve files contain no key that Serve would silently ignore."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.serve.running import CONFIGS
from benchmarks.stand_in import stand_in_bundle
from skinray.errors import BundleError, SettingsError
from skinray.service.middleware.tokens import ENVIRONMENT
from tests.support.photo_bundles import photo_bundle

ROOT = CONFIGS.parent
FILES = sorted(CONFIGS.glob("*.yaml"))
DEPLOYMENTS = {
    "gpu.yaml": {"Ingress", "NerveStage", "DermisStage", "CrossingStage"},
    "local.yaml": {"Fused"},
    "photos.yaml": {"Ingress", "SkinStage", "MaskStage"},
}


def test_there_are_three_files() -> None:
    assert [file.name for file in FILES] == list(DEPLOYMENTS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_key_is_known(file: Path) -> None:
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    ServeDeploySchema.model_validate(config)
    assert unknown(ServeDeploySchema, config) == []


def test_the_lint_sees_misspelt_keys() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    deployment = config["applications"][0]["deployments"][1]
    deployment["max_ongoing_request"] = 1
    deployment["autoscaling_config"]["min_replica"] = 1
    assert unknown(ServeDeploySchema, config) == [
        "applications.deployments.autoscaling_config.min_replica",
        "applications.deployments.max_ongoing_request",
    ]


def unknown(schema: Any, values: dict[str, Any], where: str = "") -> list[str]:
    """Return the keys that no field of the pydantic schema has, at any depth."""
    found = []
    for key, value in values.items():
        if key in ("args", "user_config"):
            continue
        name = f"{where}{key}"
        if key not in schema.model_fields:
            found.append(name)
            continue
        kind = nested(schema.model_fields[key].annotation)
        if kind is not None:
            for one in value if isinstance(value, list) else [value]:
                found += unknown(kind, one, f"{name}.")
    return sorted(found)


def nested(annotation: Any) -> Any:
    """Return the pydantic model inside an annotation such as ``Optional[List[Model]]``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    inside = (nested(part) for part in getattr(annotation, "__args__", ()))
    return next((kind for kind in inside if kind is not None), None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_configure_exactly_the_deployments_that_are_built(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import serve

    from skinray.cluster.serve import app

    names, real = set(), serve.deployment

    def recorded(*args: Any, name: str, **options: Any) -> Any:
        names.add(name)
        return real(*args, name=name, **options)

    monkeypatch.setattr(serve, "deployment", recorded)

    config = yaml.safe_load(file.read_text(encoding="utf-8"))["applications"][0]
    assert config["import_path"] == "skinray.cluster.serve:app"
    tokens = tmp_path / "tokens"
    tokens.write_text("t" * 40)
    write = photo_bundle if file.name == "photos.yaml" else stand_in_bundle
    args = config["args"] | {"bundle": str(write(tmp_path / "bundle"))}
    assert args["service"]["tokens"]
    args["service"] = args["service"] | {"tokens": str(tokens)}
    app(args)
    assert names == DEPLOYMENTS[file.name]
    assert {deployment["name"] for deployment in config["deployments"]} == names


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_time_limit_is_longer_than_the_inner_one(file: Path) -> None:
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    service_s = config["applications"][0]["args"]["service"]["timeout_s"]
    assert config["http_options"]["request_timeout_s"] > service_s
    for deployment in config["applications"][0]["deployments"]:
        assert deployment["graceful_shutdown_timeout_s"] > service_s


def test_invalid_args_are_refused(tmp_path: Path) -> None:
    from skinray.cluster.serve import app

    with pytest.raises(SettingsError, match="layuot"):
        app({"bundle": str(tmp_path), "layuot": "fused"})
    with pytest.raises(BundleError, match=re.escape(str(tmp_path))):
        app({"bundle": str(tmp_path), "service": {"without_tokens": True}})


def test_tokens_are_required_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skinray.cluster.serve.app import app, guarded
    from skinray.config.scoring import ServeSettings

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(SettingsError, match=ENVIRONMENT):
        app({"bundle": str(tmp_path)})
    both = {"tokens": "tokens", "without_tokens": True}
    with pytest.raises(SettingsError, match="one of them"):
        app({"bundle": str(tmp_path), "service": both})
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "tokens"))
    with pytest.raises(SettingsError, match="cannot be read"):
        app({"bundle": str(tmp_path)})
    (tmp_path / "tokens").write_text("t" * 40)
    settings = guarded(ServeSettings(bundle="b"))
    assert settings.service.tokens == str(tmp_path / "tokens")


def test_labels_are_for_biopsies_only(tmp_path: Path) -> None:
    from skinray.cluster.serve import app

    args = {
        "bundle": str(photo_bundle(tmp_path / "bundle")),
        "service": {"labels": "labels", "without_tokens": True},
    }
    with pytest.raises(SettingsError, match="serve it without a labels folder"):
        app(args)
