"""The report of a run on photographs: whole in one file, its figures those of the run."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from skinray.config.photos import LOOKED_AT, PhotoSettings, photo_recipe
from skinray.errors import SkinrayError
from skinray.learning.photos.views import LEAST
from skinray.learning.run_folder import OWNER
from skinray.report.photos.csv_files import is_photo_run
from skinray.report.photos.figures import view_charts
from skinray.report.photos.page import (
    first_table,
    photo_table,
    view_tables,
    whole_table,
    write_photo_report,
)
from skinray.report.photos.paper import PAPER
from skinray.report.photos.rows import LOOKED
from skinray.report.photos.table import PhotoResults, table_text
from skinray.report.photos.words import answer, best, caveats, training_explained, weakest
from tests.support.commands import Command
from tests.support.fake_photo_run import PHOTOS, fake_photo_results, write_photo_run
from tests.support.page import Page

ROOT = Path(__file__).parents[3]
TABLES = sorted((ROOT / "benchmarks" / "results").glob("photo_table*.md"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_photo_run(tmp_path_factory.mktemp("photos"))
    write_photo_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(page: Page) -> None:
    for image in page.all("img"):
        assert str(image["src"]).startswith("data:image/")
        assert image["alt"]
    assert not page.all("script")
    assert not page.all("link")


def test_table_one_is_shown_beside_the_papers(page: Page, run: Path) -> None:
    results = PhotoResults.load(run)
    for row in results.rows:
        assert f"{row.summary.jaccard.value:.3f} ({row.summary.dice.value:.3f})" in page.text
        assert f"[{row.summary.jaccard.low:.3f}, {row.summary.jaccard.high:.3f}]" in page.text
    # The paper's stand once: below the U-Net's plain row, neither its flips nor DeepLabV3.
    assert page.text.count(".44 (.61)") == 1
    assert [row.paper for row in results.rows if row.scenario == "fine-tuning"] == [
        ".89 (.94)", "", "",
    ]  # fmt: skip


def test_table_one_has_parameters_and_epoch_times_beside_the_papers(page: Page, run: Path) -> None:
    results = PhotoResults.load(run)
    first = first_table(results)
    assert first.columns == (
        "", "parameters", "epoch time", "direct transfer", "direct training", "fine-tuning",
    )  # fmt: skip
    assert [row.cells[:3] for row in first.rows] == [
        ("U-Net", "7,463,645", "21 s"),
        ("the paper", "7.5M", "363 s"),
        ("U-Net, flips averaged", "7,463,645", "21 s"),
        (f"DeepLabV3 {LOOKED}", "11,024,000", "64 s"),
    ]
    assert (first.rows[0].kind, first.rows[1].kind) == ("run", "paper")
    said = " ".join(first.notes)
    assert said.count("in this run (started on 2 cores)") == 1
    assert "names neither its hardware nor the training that its times are from" in said
    for words in (*first.rows[0].cells[1:3], "7.5M", "363 s", said.partition(" This table has")[0]):
        assert words in page.text, words
    whole = whole_table(results.rows)
    at = whole.columns.index("epoch time")
    assert [row.cells[at - 1 : at + 1] for row in whole.rows[:4]] == [
        ("7,463,645", "21 s"), ("7,463,645", "43 s"), ("11,024,000", "64 s"),
        ("7,463,645", "1.2 s"),
    ]  # fmt: skip


def test_the_tables_files_have_parameters_and_epoch_times_beside_the_papers(run: Path) -> None:
    with (run / "table1.csv").open(encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    columns = ("parameters", "epoch_s", "paper_parameters", "paper_epoch_time")
    assert [tuple(line[name] for name in columns) for line in lines[:3]] == [
        ("7463645", "21.4", "7.5M", "363 s"), ("7463645", "42.8", "", ""),
        ("11024000", "64.2", "", ""),
    ]  # fmt: skip
    told = (run / "table1.md").read_text(encoding="utf-8")
    header = "| network | scenario | parameters | epoch time | epochs | Jaccard |"
    assert header in told
    assert "| U-Net | direct transfer | 7,463,645 | 21 s | 20 | " in told
    assert " | 7.5M | 363 s | .44 (.61) |" in told
    assert "| U-Net | fine-tuning | 7,463,645 | 0.46 s | 20 | " in told
    assert told.count("in this run (started on 2 cores)") == 1


def test_the_papers_column_stands_as_it_is_printed() -> None:
    assert {name: one[:2] for name, one in PAPER.items()} == {
        "skin_dense_unet": ("149.9M", "680 s"),
        "skin_unet_large": ("150M", "697 s"),
        "skin_unet": ("7.5M", "363 s"),
    }


def varied(results: PhotoResults) -> PhotoResults:
    """The same results of a run by settings that were derived from ``varied``."""
    settings = photo_recipe("varied").only(["skin_unet"]).lasting(7).override({"seed": 4})
    told = results.model_dump() | {"settings": settings.model_dump(mode="json")}
    return PhotoResults.model_validate(told)


def test_every_table_marks_what_was_developed_on_test_images(run: Path, tmp_path: Path) -> None:
    results = varied(PhotoResults.load(run))
    results.save(tmp_path)
    tables = [
        first_table(results), whole_table(results.rows), photo_table(results.rows),
        *view_tables(results.rows),
    ]  # fmt: skip
    for table in tables:
        assert table.notes[-1].startswith(f"{LOOKED} This training was {LOOKED_AT}"), table.title
        for name in ("U-Net", "DeepLabV3"):
            names = [*table.columns, *(row.cells[0] for row in table.rows)]
            named = [cell for cell in names if cell.startswith(name)]
            assert named, table.title
            assert all(LOOKED in cell for cell in named), table.title
    page = Page(write_photo_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count(LOOKED_AT) == 1 + len(tables) + len(view_charts(results.rows))
    assert LOOKED_AT in " ".join(caveats(results))
    told = (tmp_path / "table1.md").read_text(encoding="utf-8")
    assert f"{LOOKED} This training was {LOOKED_AT}; on those its figures are optimistic." in told
    assert told.count(f"| U-Net {LOOKED} | ") == 3
    for name in ("table1.csv", "photos.csv", "views.csv"):
        with (tmp_path / name).open(encoding="utf-8") as file:
            assert {line["remark"] for line in csv.DictReader(file)} == {LOOKED_AT}, name


def test_only_what_was_developed_on_test_images_is_marked(run: Path) -> None:
    """By the paper's recipe its own networks are not; those beyond it train as ``varied`` does."""
    results = PhotoResults.load(run)
    assert {row.model for row in results.rows if row.looked_at} == {"skin_deeplabv3"}
    plain = results.model_copy(update={"rows": [r for r in results.rows if not r.looked_at]})
    assert LOOKED not in table_text(plain)
    assert LOOKED_AT not in " ".join(caveats(plain))
    with (run / "table1.csv").open(encoding="utf-8-sig") as file:
        for line in csv.DictReader(file):
            assert (line["remark"] == LOOKED_AT) == (line["network"] == "DeepLabV3")


@pytest.mark.parametrize(
    "path",
    [
        "docs/guides/photographs.md",
        "docs/decisions/0029-a-small-network-that-has-seen-people.md",
        "docs/decisions/0030-steady-training-on-few-photographs.md",
        "docs/decisions/0032-members-and-photographs-without-skin.md",
        *(f"benchmarks/results/{path.name}" for path in TABLES),
    ],
)  # fmt: skip
def test_documents_that_quote_the_benchmarks_say_so(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert LOOKED_AT.partition(",")[0] in " ".join(text.split())
    rows = re.findall(r"^\| (?:U-Net|MobileNetV2|DeepLabV3).*$", text, re.M)
    assert all(LOOKED in row for row in rows)
    assert bool(rows) == path.startswith("benchmarks")


def test_views_pictures_curves_and_settings_are_shown(page: Page) -> None:
    for words in (
        "By skin tone (degrees of ITA)", "By lighting (mean L*)", "By share of skin",
        "Chardon", "Skin: DeepLabV3", "validation", "fine_tuning_factor", "20 of hgr",
        f"Every test photograph ({PHOTOS})",
    ):  # fmt: skip
        assert words in page.text, words
    pictures = [one for one in page.all("img") if "jpeg" in str(one["src"])[:20]]
    assert len(pictures) == 9 * 3 * 3
    grey = [one for one in pictures if "confidence that each pixel is skin" in str(one["alt"])]
    assert len(grey) == 9 * 3
    assert "black is 0 %, white 100 % that a pixel is skin" in page.text
    assert "It is the network's output, before the threshold of 50 % gives the mask" in page.text


def test_words_say_the_answer_and_what_limits_it(run: Path) -> None:
    results = PhotoResults.load(run)
    top = best(results.rows)
    assert top is not None
    assert (top.label, top.scenario) == ("U-Net", "fine-tuning")
    assert "U-Net, pretrained and fine-tuned, finds the skin with a mean Jaccard of " in answer(
        results
    )
    said = " ".join(caveats(results))
    assert f"Only {PHOTOS} photographs were tested" in said
    assert "limited to 20 epochs, and took at most 20; the paper's limit is 500" in said
    assert "DeepLabV3 started from random weights, since" in said
    assert "started from random weights, since" in table_text(results)
    assert "U-Net started" not in said
    assert "chosen on these same photographs, so the first figure is optimistic" in said
    assert "those of the recipe" not in said
    other = results.model_copy(update={"settings": {**results.settings, "recipe": "varied"}})
    assert "those of the recipe 'varied', not the paper's" in " ".join(caveats(other))


def test_test_photographs_without_marked_skin_are_reported(run: Path) -> None:
    results = PhotoResults.load(run)
    assert "no skin marked" not in table_text(results)
    photos = results.rows[0].photos
    blank = photos[3].model_copy(update={"skin": 0, "both": 0})
    row = results.rows[0].model_copy(update={"photos": [*photos[:3], blank, *photos[4:]]})
    named = [f"ward/{at}.jpg" for at in range(7)]
    notes = ["are the masks inverted?"]
    other = results.model_copy(
        update={"rows": [row, *results.rows[1:]], "unmarked": named, "notes": notes}
    )
    for said in (" ".join(caveats(other)), table_text(other)):
        assert "7 masks mark no skin: ward/0.jpg, ward/1.jpg, " in said
        assert notes[0] in said
        assert "ward/4.jpg and 2 more. If such a photograph" in said
        assert f"1 of the {PHOTOS} test photographs has no skin marked" in said
        assert f"the mean drops by up to {1 / PHOTOS:.3f}." in said


@pytest.mark.parametrize(("part", "answer"), [(0.9995, "skin"), (0, "no skin"), (0.998, "")])
def test_a_network_that_calls_every_pixel_the_same_is_reported(
    run: Path, part: float, answer: str
) -> None:
    results = PhotoResults.load(run)
    photos = [
        photo.model_copy(update={"predicted": round(part * photo.pixels)})
        for photo in results.rows[0].photos
    ]
    row = results.rows[0].model_copy(update={"photos": photos})
    same = results.model_copy(update={"rows": [row, *results.rows[1:]]})
    told = f"U-Net, direct transfer: calls nearly every pixel {answer}, so it has learned nothing"
    assert row.blind == answer
    for said in (" ".join(caveats(same)), table_text(same)):
        assert (told in said) == bool(answer)
        assert said.count("calls nearly every pixel") == bool(answer)


def test_the_weakest_group_is_the_one_of_least_overlap(run: Path) -> None:
    top = best(PhotoResults.load(run).rows)
    assert top is not None
    found = weakest(top)
    assert found is not None
    assert found.bin.images >= LEAST
    figures = [one.jaccard.value for view in top.views for one in view.known if one.jaccard]
    assert found.bin.jaccard is not None
    assert found.bin.jaccard.value == min(figures)


def test_views_are_written_for_programs_with_empty_figures_where_few(run: Path) -> None:
    with (run / "views.csv").open(encoding="utf-8-sig") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 9 * (6 + 5 + 4)
    for line in lines:
        few = int(line["images"]) < LEAST
        assert (line["jaccard"] == "") == few
        assert bool(line["note"]) == few
    tone = [line for line in lines if line["by"] == "skin tone"][:6]
    assert sum(int(line["images"]) for line in tone) == PHOTOS - 2
    (table, *_) = view_tables(PhotoResults.load(run).rows)
    assert "Not measured: 2." in table.notes


def test_results_of_before_these_columns_are_shown_and_marked(run: Path, tmp_path: Path) -> None:
    stored = json.loads(varied(PhotoResults.load(run)).model_dump_json())
    for row in stored["rows"]:
        del row["parameters"], row["epoch_s"]
        for example in row["examples"]:
            del example["confidence"]
    stored["settings"]["pretraining_images"] = None  # which then meant the smallest set
    (tmp_path / "results.json").write_text(json.dumps(stored), encoding="utf-8")
    results = PhotoResults.load(tmp_path)
    assert all(row.looked_at for row in results.rows)
    assert first_table(results).rows[0].cells[1:3] == ("not recorded", "not recorded")
    text = Page(write_photo_report(tmp_path).read_text(encoding="utf-8")).text
    assert LOOKED_AT in text


def test_a_run_of_before_the_views_still_has_a_page(tmp_path: Path) -> None:
    whole = fake_photo_results(tmp_path)
    bare = [row.model_copy(update={"views": [], "examples": []}) for row in whole.rows]
    whole.model_copy(update={"rows": bare, "curves": [], "settings": {}}).save(tmp_path)
    text = Page(write_photo_report(tmp_path).read_text(encoding="utf-8")).text
    assert "Skin tone and lighting were not measured in this run" in text
    assert "This run has no pictures" in text
    assert "No training curve was recorded" in text


def test_the_report_command_recognises_a_run_on_photographs(
    tmp_path: Path, skinray: Command
) -> None:
    run = write_photo_run(tmp_path)
    assert is_photo_run(run)
    ended = skinray("report", run)
    assert ended.code == 0, ended.err
    before = (run / "report.html").read_text(encoding="utf-8")
    for picture in (run / "examples").iterdir():
        picture.unlink()
    assert skinray("report", run).code == 0
    after = (run / "report.html").read_text(encoding="utf-8")
    assert after != before
    assert "its files are gone from the run folder" in after


def test_missing_or_damaged_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / OWNER).touch()
    with pytest.raises(SkinrayError, match=r"no results\.json; the run has not finished"):
        write_photo_report(tmp_path)
    (tmp_path / "results.json").write_text('{"data": 1}')
    with pytest.raises(SkinrayError, match="not the results of a run on photographs"):
        write_photo_report(tmp_path)


def test_results_of_another_kind_are_refused_without_a_traceback(
    tmp_path: Path, skinray: Command
) -> None:
    run = write_photo_run(tmp_path)
    (run / "table1.csv").unlink()  # by which a run on photographs is known
    ended = skinray("report", run)
    assert ended.code == 1
    assert "results.json: not the results of a cross-validated run (" in ended.err
    assert "Traceback" not in ended.err


def test_the_page_says_how_the_networks_were_trained(run: Path) -> None:
    results = PhotoResults.load(run)

    def said(settings: PhotoSettings) -> list[str]:
        told = settings.model_dump(mode="json")
        return training_explained(results.model_copy(update={"settings": told}))

    paper = said(PhotoSettings())
    assert paper == [
        "The loss is 1 minus a soft Jaccard. The weights are those of the epoch with the best "
        "validation; training stops after 50 epochs without improvement."
    ]
    steady = said(photo_recipe("varied"))
    assert steady == [
        "The loss is 1 minus a soft Jaccard plus 0.3 times the cross-entropy of the pixels. The "
        "weights are those of the last epoch, as a running mean over steps; training never stops "
        "early."
    ]
    mixed = said(PhotoSettings().only(["skin_unet", "skin_mobilenet"]))
    assert mixed == [f"U-Net: the{paper[0][3:]}", f"MobileNetV2: the{steady[0][3:]}"]
