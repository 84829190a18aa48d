from __future__ import annotations

from pathlib import Path

import pytest

from skinray.cli import run_folder


def test_runs_go_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SKINRAY_RUNS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    out = run_folder.default_out("demo")
    assert out.parent == tmp_path / "runs"
    assert out.name.startswith("demo-")
    assert list(tmp_path.iterdir()) == []


def test_a_jobs_runs_go_where_the_cluster_does_not_delete_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKINRAY_RUNS", raising=False)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_folder.default_out("demo").parent == tmp_path / "skinray-runs"
    monkeypatch.setenv("SKINRAY_RUNS", str(tmp_path / "own"))
    assert run_folder.default_out("demo").parent == tmp_path / "own"
