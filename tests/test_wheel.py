"""The wheel, built and installed into an empty environment, away from the repository.

The environment finds the dependencies of the one that runs the tests, and nothing else of it: its
link to the repository is in a .pth file, which is not read there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SERVE = ROOT / "serve_configs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

USE = """
import sys
import skinray
from skinray.files import STARTER

assert skinray.__file__.startswith(sys.prefix), skinray.__file__
assert str(STARTER).startswith(sys.prefix), STARTER
found = skinray.load_bundle(STARTER).predict("drawn/images/0001.png")
print(type(found.crossings.count).__name__, found.nerve.shape)
"""
TYPED = """
import skinray
count: int = skinray.load_bundle("bundle").predict("a.tif").crossings.count
share: float = skinray.load_bundle("bundle", kind="photo").predict("a.jpg").fraction
word: str = skinray.read_image("a.tif").um_per_px
"""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel alone."""

    wheel: Path
    scripts: Path
    folder: Path

    def __call__(
        self, program: str, *words: Any, code: int = 0
    ) -> subprocess.CompletedProcess[str]:
        kept = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS")
        run = subprocess.run(
            [self.scripts / program, *map(str, words)],
            cwd=self.folder, capture_output=True, text=True, check=False,
            env={name: os.environ[name] for name in kept if name in os.environ},
        )  # fmt: skip
        assert run.returncode == code, run.stdout + run.stderr
        return run


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, ROOT]
    subprocess.run(built, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    place = folder / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    install = [*pip, "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    here = folder / "elsewhere"
    here.mkdir()
    return Installed(wheel, place / "bin", here)


def test_the_wheel_holds_all_that_a_user_needs_and_no_test(installed: Installed) -> None:
    names = zipfile.ZipFile(installed.wheel).namelist()
    assert {
        "skinray/py.typed",
        "skinray/__init__.pyi",
        "skinray/__main__.py",
        "skinray/starter/bundle.json",
        "skinray/starter/nerve.safetensors",
        "skinray/starter/dermis.safetensors",
        "skinray/service/page/index.html",
        "skinray/report/style.css",
        *(f"skinray/serve_configs/{name}.yaml" for name in ("gpu", "local", "photos")),
    } <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"skinray"}


def test_the_help_names_nothing_that_only_the_repository_has(installed: Installed) -> None:
    for words in ([], ["train-cv"], ["train-photos"], ["score"], ["serve"], ["serve-config"]):
        said = installed("skinray", *words, "--help").stdout
        assert "Usage:" in said
        assert "jobs/" not in said
        assert "python jobs" not in said
    said = " ".join(installed("skinray", "train-cv", "--help").stdout.split())
    assert "ray job submit -- skinray train-cv" in said


@pytest.mark.parametrize("file", sorted(SERVE.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_serve_config_is_printed_as_it_is(installed: Installed, file: Path) -> None:
    printed = installed("skinray", "serve-config", file.stem).stdout
    assert printed == file.read_text(encoding="utf-8")
    assert yaml.safe_load(printed)["applications"][0]["import_path"] == "skinray.cluster.serve:app"


def test_an_unknown_serve_config_is_refused_with_the_names(installed: Installed) -> None:
    said = installed("skinray", "serve-config", "cpu", code=1).stderr
    assert said == "error: no serve config is called 'cpu': use one of gpu, local, photos\n"


def test_biopsies_are_drawn_checked_and_counted(installed: Installed) -> None:
    draw = ("phantom", "--out", "drawn", "--images", 2, "--size", "256x192", "--subjects", 2)
    installed("skinray", *draw)
    checked = installed("python", "-m", "skinray", "check", "--data", "drawn", "--folds", 2)
    assert "no problems found in 2 images" in checked.stdout
    (first, _) = sorted((installed.folder / "drawn" / "images").iterdir())
    used = installed("python", "-c", USE.replace("drawn/images/0001.png", str(first)))
    assert used.stdout == "int (192, 256)\n"


def test_a_users_types_are_checked(installed: Installed) -> None:
    (installed.folder / "user.py").write_text(TYPED, encoding="utf-8")
    # No type of ours depends on torch's hundreds of modules, which take minutes to read.
    skipped = "[mypy-torch.*,torchvision.*,cv2.*]\nfollow_imports = skip\n"
    (installed.folder / "mypy.ini").write_text(f"[mypy]\n{skipped}", encoding="utf-8")
    checked = installed("python", "-m", "mypy", "--strict", "user.py", code=1).stdout
    assert checked.startswith("user.py:5: error: Incompatible types in assignment")
    assert checked.endswith("Found 1 error in 1 file (checked 1 source file)\n")
