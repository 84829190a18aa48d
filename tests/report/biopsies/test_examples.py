from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinray.report.biopsies.examples import Example, make_examples, pick
from skinray.report.biopsies.results import CountRow, RunResults
from tests.support.fake_run import SIZE, write_run


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, RunResults]:
    return tmp_path / "run", write_run(tmp_path, images=12)


def row(name: str, model: int, dice: float) -> CountRow:
    return CountRow(
        image=name, path=name, subject="s", group=None, fold=1, expert=5, model=model,
        nerve_dice={0: dice}, dermis_dice=1.0, boundary_px=1.0,
    )  # fmt: skip


def pixels(uri: str) -> np.ndarray:
    start, data = uri.split(",", 1)
    assert start == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def example_of(examples: list[Example], rank: str) -> Example:
    return next(example for example in examples if example.rank == rank)


def test_best_median_worst_by_count_then_by_dice() -> None:
    rows = [row("a", 8, 0.9), row("b", 5, 0.2), row("c", 5, 0.8), row("d", 1, 1), row("e", 4, 0.5)]
    assert [(rank, r.image) for rank, r in pick(rows)] == [
        ("Best", "c"),
        ("Median", "e"),
        ("Worst", "d"),
    ]


def test_few_images_are_shown_once_each() -> None:
    assert pick([]) == []
    assert [r.image for _, r in pick([row("a", 5, 0.5)])] == ["a"]
    assert [r.image for _, r in pick([row("a", 5, 0.5), row("b", 9, 0.5)])] == ["a", "b"]


def test_a_score_that_is_not_finite_ranks_last_among_its_equals() -> None:
    rows = [row("a", 5, float("nan")), row("b", 5, 0.1), row("c", 5, 0.3)]
    assert [r.image for _, r in pick(rows)] == ["c", "b", "a"]


def test_both_sides_are_drawn_on_the_image(run: tuple[Path, RunResults]) -> None:
    run_dir, results = run
    for example in make_examples(results, run_dir):
        assert example.problem == ""
        image = np.asarray(Image.open(example.row.path)).astype(int)
        for uri in (example.model_uri, example.expert_uri):
            drawn = pixels(uri).astype(int)
            assert drawn.shape == (*SIZE, 3)
            changed = np.abs(drawn - image).max(axis=2) > 60
            assert 0.001 < changed.mean() < 0.3
        assert example.traced == example.row.expert


def test_maps_of_a_common_scale_are_drawn_on_the_image_at_that_scale(
    run: tuple[Path, RunResults],
) -> None:
    run_dir, results = run
    rank, shown = pick(results.counts)[0]
    with np.load(run_dir / str(shown.prediction)) as stored:
        half = {name: stored[name][::2, ::2] for name in ("nerve", "dermis", "boundary")}
        half["points"] = stored["points"] / 2
    np.savez(run_dir / str(shown.prediction), **half)
    counts = [r.model_copy(update={"um_per_px": 4.0}) if r is shown else r for r in results.counts]
    examples = make_examples(results.model_copy(update={"counts": counts}), run_dir)
    example = example_of(examples, rank)
    assert example.problem == ""
    for uri in (example.model_uri, example.expert_uri):
        assert pixels(uri).shape == (SIZE[0] // 2, SIZE[1] // 2, 3)


def test_what_is_gone_is_a_sentence_and_costs_the_others_nothing(
    run: tuple[Path, RunResults],
) -> None:
    run_dir, results = run
    chosen = dict(pick(results.counts))
    Path(chosen["Best"].path).unlink()
    (run_dir / str(chosen["Worst"].prediction)).unlink()
    examples = make_examples(results, run_dir)
    assert chosen["Best"].image in example_of(examples, "Best").problem
    assert "missing from the run folder" in example_of(examples, "Worst").problem
    assert example_of(examples, "Median").problem == ""


def test_a_cohort_that_is_gone_is_a_sentence(run: tuple[Path, RunResults]) -> None:
    run_dir, results = run
    examples = make_examples(results.model_copy(update={"data": "nowhere"}), run_dir)
    assert len(examples) == 3
    assert all(example.problem and not example.model_uri for example in examples)


def spoil_not_npz(path: Path) -> None:
    path.write_bytes(b"not an archive")


def spoil_size(path: Path) -> None:
    small = np.zeros((4, 4), bool)
    np.savez(path, nerve=small, dermis=small, boundary=small, points=np.empty((0, 2)))


def spoil_key(path: Path) -> None:
    np.savez(path, nerve=np.zeros(SIZE, bool))


def spoil_pickle(path: Path) -> None:
    np.savez(path, nerve=np.array([print], dtype=object))


@pytest.mark.parametrize("spoil", [spoil_not_npz, spoil_size, spoil_key, spoil_pickle])
def test_a_spoilt_prediction_is_a_sentence(run: tuple[Path, RunResults], spoil: object) -> None:
    run_dir, results = run
    prediction = str(dict(pick(results.counts))["Worst"].prediction)
    assert callable(spoil)
    spoil(run_dir / prediction)
    problem = example_of(make_examples(results, run_dir), "Worst").problem
    assert problem.startswith(f"{prediction}: not a prediction of this image")


def test_an_image_without_prediction_says_so(run: tuple[Path, RunResults]) -> None:
    run_dir, results = run
    bare = [r.model_copy(update={"prediction": None}) for r in results.counts]
    examples = make_examples(results.model_copy(update={"counts": bare}), run_dir)
    assert all("kept no prediction" in example.problem for example in examples)
