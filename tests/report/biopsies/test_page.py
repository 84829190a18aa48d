from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from skinray.errors import SkinrayError
from skinray.learning.run_folder import OWNER
from skinray.report.biopsies.page import write_report
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import score_run
from skinray.report.biopsies.tables import tables_text
from tests.support.fake_run import write_run
from tests.support.page import Page


def render(folder: Path, **changes: Any) -> Page:
    """Write the report of a fake run with fields replaced, and parse it; few charts."""
    run = folder / "run"
    results = write_run(folder, draw=False).model_copy(update={"curves": []} | changes)
    results.save(run)
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResults]:
    folder = tmp_path_factory.mktemp("report")
    results = write_run(folder)
    write_report(folder / "run")
    return folder / "run", results


@pytest.fixture(scope="module")
def page(run: tuple[Path, RunResults]) -> Page:
    return Page((run[0] / "report.html").read_text(encoding="utf-8"))


def test_two_whole_files_are_written(run: tuple[Path, RunResults]) -> None:
    names = {path.name for path in run[0].iterdir()}
    assert {"report.html", "report.json"} <= names
    assert not [name for name in names if name.endswith(".part")]


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    assert not page.all("script")
    assert not page.all("link")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, value[:60])


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    assert dict(page.elements)["html"] == {"lang": "en"}
    assert len(page.all("img")) >= 6 + 2 + 3 + 3
    assert all(image.get("alt") for image in page.all("img"))
    assert len(page.all("table")) == len(page.all("caption")) == 9
    assert all(cell.get("scope") in ("row", "col") for cell in page.all("th"))
    ids = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(link["href"])[1:] for link in page.all("a")]
    assert set(links) <= set(ids)


def test_the_first_screen_answers(page: Page, run: tuple[Path, RunResults]) -> None:
    scores = score_run(run[1])
    top = page.text[: page.text.index("Counts: the model against the expert")]
    assert scores.mean_r is not None
    assert scores.dermis_dice is not None
    for figure in (
        f"{scores.mean_r.mean:.3f}",
        "0.753 (0.156)",
        f"{scores.dermis_dice.mean:.3f}",
        f"{scores.nerve_dice[0].mean:.3f}",
        "Held-out images counted 30 from 10 subjects",
        "Before you rely on these results",
    ):
        assert figure in top


def test_the_settings_chosen_for_each_fold_are_on_the_page(page: Page) -> None:
    shown = page.text[page.text.index("Settings chosen by the search") :]
    main = "0.001 0.0001 folds 1, 4, 5; all images; component split"
    assert f"Nerve: HED from scratch {main} Nerve: HED from scratch 0.0003 0.0001" in shown
    assert "0.0003 0.0001 folds 2, 3 " in shown
    assert "Nerve: U-Net, brain MRI 0.001 0.0001 component split" in shown
    assert "optimistic" not in page.text


def test_optimistic_figures_are_marked_one_by_one(tmp_path: Path) -> None:
    settings = write_run(tmp_path / "first", draw=False).settings
    page = render(tmp_path, settings=settings | {"tune": {"selection": "pooled"}})
    top = page.text[: page.text.index("Counts: the model against the expert")]
    for figure in (
        "Correlation with the expert (r)", "Mean error of a count",
        "Dermis: overlap with the expert's (Dice)",
        "Nerves: overlap with the expert's (Dice)",
    ):  # fmt: skip
        assert "optimistic" in top.split(figure)[-1].split("the paper: ")[0]
    assert "but that was used to choose its settings" in page.text
    stored = json.loads((tmp_path / "run/report.json").read_text(encoding="utf-8"))
    assert stored["scores"]["optimistic"].startswith("The figures are optimistic: ")


def test_every_image_trial_setting_and_version_is_on_the_page(
    page: Page, run: tuple[Path, RunResults]
) -> None:
    results = run[1]
    for row in results.counts:
        assert row.image in page.text
    for trial in results.trials:
        assert trial.trial in page.text
    assert "the loss was not finite in 6 steps" in page.text
    assert "plateau_patience_epochs: 10" in page.text
    assert results.data_fingerprint in page.text
    assert results.hardware in page.text


def test_the_file_for_programs_is_exact(run: tuple[Path, RunResults]) -> None:
    run_dir, results = run
    stored = json.loads((run_dir / "report.json").read_text(), parse_constant=pytest.fail)
    scores = score_run(results)
    assert scores.mean_r is not None
    assert stored["scores"]["mean_r"]["mean"] == scores.mean_r.mean
    fold = stored["scores"]["folds"][1]
    assert fold["agreement"]["p"] == scores.folds[1].agreement.p
    assert fold["paper"] == [0.465, 0.04]
    assert stored["scores"]["nerve"][0]["dice"]["3"]["mean"] == scores.nerve[0].dice[3].mean
    assert stored["run"]["counts"][4]["model"] == results.counts[4].model
    assert stored["run"]["settings"] == results.settings


def test_the_same_records_give_the_same_report(run: tuple[Path, RunResults]) -> None:
    files = [run[0] / "report.html", run[0] / "report.json"]
    before = [file.read_bytes() for file in files]
    write_report(run[0])
    assert [file.read_bytes() for file in files] == before


def test_names_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    results = write_run(tmp_path, draw=False)
    evil = "<script>alert(1)</script> & \"'$\\frac{"
    counts = [r.model_copy(update={"subject": evil, "image": evil}) for r in results.counts]
    arms = [arm.model_copy(update={"label": evil, "reason": evil}) for arm in results.arms]
    trials = [t.model_copy(update={"arm": evil, "error": evil}) for t in results.trials]
    curves = [curve.model_copy(update={"arm": evil}) for curve in results.curves]
    changed = {"counts": counts, "arms": arms, "trials": trials, "curves": curves, "notes": [evil]}
    results.model_copy(update=changed).save(tmp_path / "run")
    text = write_report(tmp_path / "run").read_text(encoding="utf-8")
    assert not Page(text).all("script")
    assert evil in Page(text).text


def test_pictures_that_are_gone_are_replaced_by_sentences(tmp_path: Path) -> None:
    page = render(tmp_path)
    assert page.text.count("No picture available:") == 3


def test_an_empty_run_is_still_a_page(tmp_path: Path) -> None:
    empty: dict[str, Any] = {
        name: []
        for name in ("counts", "folds", "component_counts", "arms", "trials", "curves", "notes")
    }
    page = render(tmp_path, **empty, settings={}, bundle=None)
    for sentence in (
        "No held-out images were counted.",
        "No training curve was recorded.",
        "No settings were searched",
        "not written",
        "not known",
    ):
        assert sentence in page.text
    assert not page.all("img")


def test_scores_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    lost = {"nerve_dice": {0: float("nan")}, "dermis_dice": float("nan")}
    rows = write_run(tmp_path / "first", draw=False).counts
    page = render(tmp_path, counts=[row.model_copy(update=lost) for row in rows])
    assert "not known" in page.text
    assert " nan" not in page.text
    stored = json.loads((tmp_path / "run/report.json").read_text(), parse_constant=pytest.fail)
    assert stored["run"]["counts"][0]["dermis_dice"] is None


def test_hundreds_of_trials_are_all_listed(tmp_path: Path) -> None:
    trials = write_run(tmp_path / "first", draw=False).trials
    many = [t.model_copy(update={"trial": f"{t.trial}-{i}"}) for i in range(5) for t in trials]
    page = render(tmp_path, trials=many)
    assert page.text.count("images/s") >= 1
    assert sum(attributes.get("class") == "done" for attributes in page.all("tr")) == 735
    assert sum(attributes.get("class") == "failed" for attributes in page.all("tr")) == 15


def test_a_run_without_results_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / OWNER).touch()
    with pytest.raises(SkinrayError, match="--resume"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / OWNER]


def test_a_report_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, skinray.report.biopsies.page; "
        "print([m for m in ('torch', 'ray', 'matplotlib.pyplot') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_drawn_images_are_called_so_and_not_compared_with_the_paper(tmp_path: Path) -> None:
    page = render(tmp_path, synthetic=True)
    run = tmp_path / "run"
    text = page.text.partition("Started 2025")[2].partition("Settings")[0]
    notice = text.index("Synthetic: skinray drew these images.")
    assert notice < text.index("Correlation with the truth drawn (r)")
    body = text.replace('follow the form of "Automated Skin Biopsy', "")
    assert "expert" not in body.lower()
    assert "paper" not in body.lower()
    assert "0.753" not in body
    whole = (run / "report.html").read_text(encoding="utf-8")
    assert not [image for image in page.all("img") if "expert" in str(image.get("alt"))]
    assert "the paper reports" not in whole
    exact = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert exact["synthetic"] is True
    assert exact["scores"]["split_second"]["paper"] is None
    assert all(fold["paper"] is None for fold in exact["scores"]["folds"])
    assert all(arm["paper"] == {} for arm in exact["scores"]["nerve"])
    printed = tables_text(RunResults.load(run))
    assert printed.startswith("Synthetic: skinray drew these images.")
    assert "expert" not in printed
    assert "paper" not in printed


def test_real_images_have_no_such_notice(run: tuple[Path, RunResults], page: Page) -> None:
    assert "ynthetic" not in page.text
    exact = json.loads((run[0] / "report.json").read_text(encoding="utf-8"))
    assert exact["synthetic"] is False
    assert "ynthetic" not in tables_text(run[1])
