"""The page of speeds says what was measured, where, and whether it keeps its limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import measure, performance


@pytest.mark.parametrize(
    ("value", "asked", "said"),
    [
        (3.0, ">= 3", ">= 3: met"),
        (2.9, ">= 3", ">= 3: **NOT met**"),
        (1.1, "<= 1.1", "<= 1.1: met"),
        (1.2, "<= 1.1", "<= 1.1: **NOT met**"),
        (5.0, "", ""),
    ],
)
def test_a_limit_is_kept_or_not(value: float, asked: str, said: str) -> None:
    assert performance.verdict(value, asked) == said


def test_the_page_has_the_last_figure_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    for value in (2.0, 4.0):
        measure.figure("backends", "HED", value, "times as fast as plain torch", ">= 3")
    measure.figure("augmentation", "augmentation", 31.5, "times as fast as torchvision v2")
    lines = performance.page(measure.recorded("figures"))
    rows = [line for line in lines if line.startswith("| ") and "what" not in line]
    assert len(rows) == 2
    assert rows[0].startswith("| augmentation | 31.5 | times as fast as torchvision v2 |  |")
    assert rows[1].startswith("| HED | 4 | times as fast as plain torch | >= 3: met | [backends](")
    assert all("cores of" in row for row in rows)


def test_only_scripts_that_exist_are_run() -> None:
    for name in performance.SHORT:
        path = Path(performance.__file__).parent.joinpath(*name.split("."))
        assert path.with_suffix(".py").is_file()
