"""The command `skinray score`: its help, and what it refuses before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.stand_in import stand_in_bundle
from tests.support.commands import Command, everything_below


def test_help_names_every_option(skinray: Command) -> None:
    said = " ".join(skinray("score", "--help").out.split())
    for text in ("--bundle", "--images", "--out", "--resume", "--max-failures", "--um-per-px",
                 "--no-overlays", "--set", "s3://", "code 3", "ray job submit"):  # fmt: skip
        assert text in said, text
    verbs = skinray("--help").out
    assert verbs.index("│ train-cv") < verbs.index("│ score") < verbs.index("│ report")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--um-per-px", "0"], "um_per_px"),
        (["--um-per-px", "300"], "um_per_px"),
        (["--set", "layout=none"], "layout"),
        (["--set", "score.layuot=fused"], "unknown settings key 'layuot'"),
        (["--images", "nowhere"], "not found"),
        (["--images", "s4://bucket/folder"], "cannot be opened"),
        (["--bundle", "nowhere"], "no bundle.json"),
    ],
)
def test_refusals_are_one_message_and_leave_nothing(
    skinray: Command, tmp_path: Path, options: list[str], reason: str
) -> None:
    bundle, images = stand_in_bundle(tmp_path / "bundle"), tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"")
    before = everything_below(tmp_path)
    given = {"--bundle": bundle, "--images": images, "--out": tmp_path / "out"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    ended = skinray("score", *(word for option in given.items() for word in option))
    assert ended.code == 1
    assert reason in ended.err
    assert ended.err.startswith("error: ")
    assert "Traceback" not in ended.err
    assert everything_below(tmp_path) == before
