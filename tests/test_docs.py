"""The documentation leads somewhere: links, anchors, commands and make targets that it names."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shutil
from pathlib import Path

import cv2
import pytest
import tifffile

from skinray.files import STARTER
from skinray.images.phantoms.cohort import write_cohort
from skinray.images.read import read_image
from tests.support.photo_bundles import photo_bundle

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "benchmarks").rglob("*.md")),
]
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the page's headings."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title).lower())
        found.add(words.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_a_link_to_a_heading_is_checked_by_its_name_on_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# 1. One, two\n```\n# no heading\n```\n## The `code` of it\n", "utf-8")
    assert anchors(page) == {"1-one-two", "the-code-of-it"}


def test_every_page_is_in_the_contents() -> None:
    contents = ROOT / "docs" / "README.md"
    text = contents.read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").rglob("*.md")):
        name = page.relative_to(contents.parent).as_posix()
        if page != contents and not name.startswith("decisions/"):
            assert f"]({name})" in text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_it_tells_you_to_run_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"python -m (benchmarks[\w.]*\w)", text):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module
    for script in re.findall(r"python ((?:jobs|benchmarks|deploy)/\S+\.py)", text):
        assert (ROOT / script).is_file(), script
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in re.findall(r"(?:`|^ *)make ([\w-]+)", text, re.MULTILINE):
        assert target in targets, target


# What somebody who installed the wheel does not have.
REPOSITORY = re.compile(r"\bjobs/|serve_configs/|\bmake \w+`|constraints\.txt|working-dir|deploy/")


def test_no_help_and_no_message_names_what_only_the_repository_has() -> None:
    said = [
        (path.name, node.value)
        for path in sorted((ROOT / "skinray").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert len(said) > 5000
    found = [(name, text) for name, text in said if REPOSITORY.search(text)]
    assert found == [("main.py", "Run one command as a script: each file in ``jobs/`` does it.")]


PYTHON = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the examples name: the starter, and phantoms."""
    folder = tmp_path_factory.mktemp("examples")
    write_cohort(folder / "cohort", 1, size=(256, 192))
    (first,) = (folder / "cohort" / "images").iterdir()
    shutil.copytree(STARTER, folder / "run" / "bundle")
    photo_bundle(folder / "photos" / "bundle")
    pixels = read_image(first).pixels
    tifffile.imwrite(
        folder / "slide.tif", pixels, resolution=(2e4, 2e4), resolutionunit="CENTIMETER"
    )
    cv2.imwrite(str(folder / "arm.jpg"), pixels)
    for stage, source in (("nerve", "nerves"), ("dermis", "dermis")):
        shutil.copy(folder / "cohort" / source / first.name, folder / f"{stage}.png")
    return folder


def without_numbers(text: str) -> str:
    """What is printed, on any processor."""
    return re.sub(r"[\d.]+", "0", text)


@pytest.mark.parametrize("page", ["README.md", "docs/reference/python.md"])
def test_the_examples_in_python_run(
    page: str, named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(named)
    blocks = PYTHON.findall((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), names)  # noqa: S102 - our own pages
        assert not shown or without_numbers(printed.getvalue()) == without_numbers(shown)
