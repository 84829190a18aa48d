"""Which module may import which, read from the source; and that an import does nothing else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Container, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import skinray

ROOT = Path(skinray.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))

# Each layer may import itself and those before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("skinray", "errors"),
    ("files", "progress"),
    ("logs",),
    ("config",),
    ("images", "crossings"),
    ("models",),
    ("learning",),
    ("scoring",),
    ("report",),
    ("service",),
    ("cluster",),
    ("cli", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Other packages that some layers must do without.
HEAVY = {"torch", "torchvision", "ray", "safetensors", "matplotlib"}
ALLOWED = {
    "images": set(),
    "crossings": set(),
    "models": {"torch", "torchvision", "safetensors"},
    "learning": {"torch", "safetensors"},
    "scoring": set(),
    "report": {"matplotlib", "torch"},
    "service": set(),
    "cluster": {"torch", "ray"},
}


# These come with ray[serve].
WITH_RAY = {"grpc", "uvicorn"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, also within functions and for types."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> str:
    """``skinray.images.read`` -> ``images``; the package itself is ``skinray``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else "skinray"


def own_layer(path: Path) -> str:
    inside = path.relative_to(ROOT).with_suffix("").parts
    return "skinray" if inside[0] == "__init__" else inside[0]


def test_what_is_imported_is_declared() -> None:
    """The tests' environment has more than what comes with skinray: see pyproject's extra dev."""
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["openvino"]]
    names = {canonicalize_name(Requirement(one).name) for one in declared}
    modules = {name.split(".")[0] for path in MODULES for name in imports(path)}
    others = modules - set(sys.stdlib_module_names) - {"skinray"}
    known = packages_distributions()
    assert len(others) > 15
    missing = {
        one for one in others if not {canonicalize_name(d) for d in known.get(one, [one])} & names
    }
    assert missing == WITH_RAY


def test_every_module_has_a_layer() -> None:
    assert len(MODULES) > 60
    assert {own_layer(path) for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_downwards(path: Path) -> None:
    own = own_layer(path)
    for module in imports(path):
        if module.split(".")[0] == "skinray":
            other = layer(module)
            assert LEVEL[other] <= LEVEL[own], f"{path} imports {module}"
            crosswise = {own, other} == {"images", "crossings"}
            assert not crosswise, f"{path} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_stay_in_their_layers(path: Path) -> None:
    used = {module.split(".")[0] for module in imports(path)} & HEAVY
    assert used <= ALLOWED.get(own_layer(path), set())


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also not through imports within functions or for types."""
    paths = {name_of(path): path for path in MODULES}
    graph = {name: direct_imports(path, paths) for name, path in paths.items()}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = set(graph[start])
        while ahead:
            seen |= ahead
            ahead = set().union(*(graph[name] for name in ahead)) - seen
        return seen

    reach = {name: reached(name) for name in graph}
    circles = {
        tuple(sorted(other for other in reach[name] if name in reach[other]))
        for name in graph
        if name in reach[name]
    }
    assert circles == set()


def direct_imports(path: Path, known: Container[str]) -> set[str]:
    """The modules of skinray that a file imports; the package only where a name of it is taken."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else str(node.module) for name in names}
    return found


# Entry points.
SMALL = {"skinray.cli.weights", "skinray.cluster.train.starter"}
FEWEST_LINES, MOST_MODULES = 60, 15


def test_no_folder_is_crowded() -> None:
    folders = Counter(path.parent for path in MODULES if path.name != "__init__.py")
    assert {folder: many for folder, many in folders.items() if many > MOST_MODULES} == {}


def test_no_small_module_serves_one_other_alone() -> None:
    importers: dict[str, set[str]] = {}
    for path in MODULES:
        for module in imports(path):
            importers.setdefault(module, set()).add(name_of(path))
    small = {
        name_of(path)
        for path in MODULES
        if path.name != "__init__.py"
        and len(path.read_text(encoding="utf-8").splitlines()) < FEWEST_LINES
        and len(importers.get(name_of(path), set()) - {name_of(path)}) == 1
        and importers[name_of(path)] != {"skinray.models"}  # the table of networks
    }
    assert small <= SMALL, "put such a small module into the only one that imports it"


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_jobs_import_the_command_line_alone() -> None:
    jobs = sorted((ROOT.parent / "jobs").glob("*.py"))
    assert jobs
    for path in jobs:
        ours = {m for m in imports(path) if m.split(".")[0] in {"skinray", "ray", "torch"}}
        assert all(module.startswith("skinray.cli") for module in ours)


IMPORT_ALL = """
import importlib, os, random, sys
from pathlib import Path
import numpy, torch, rich.style  # rich draws as it is imported
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
import skinray
root = Path(skinray.__file__).parent
files = [path.relative_to(root.parent).with_suffix("") for path in root.rglob("*.py")]
names = sorted(".".join(file.parts).removesuffix(".__init__") for file in files)
names = [name for name in names if not name.startswith("skinray.cluster")]
assert len(names) > 50, names
for name in names:
    importlib.import_module(name)
print("ray:", sorted(name for name in sys.modules if name.split(".")[0] == "ray"))
after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
print("seeds kept:", before[:2] == after[:2] and torch.equal(before[2], after[2]))
"""


def test_all_but_cluster_imports_without_ray_and_does_nothing(tmp_path: Path) -> None:
    home, here, other = (tmp_path / name for name in ("home", "here", "other"))
    for folder in (home, here, other):
        folder.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MPLCONFIGDIR": str(other),  # matplotlib's own cache of fonts is not ours
        "TMPDIR": str(other),
        "PYTHONPATH": str(ROOT.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=here, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["ray: []", "seeds kept: True"]
    assert list(home.iterdir()) == []
    assert list(here.iterdir()) == []
