"""The command line: its help, the settings it passes on, and its exit codes."""

from __future__ import annotations

import json
import logging
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
import typer

from skinray import __version__, cli, load_bundle
from skinray.cli import biopsies, run_folder
from skinray.cli.main import guarded
from skinray.cli.options import continued
from skinray.config.base import parse_assignment, to_yaml
from skinray.errors import BundleError, CohortError, SettingsError
from skinray.learning.run_folder import OWNER
from skinray.scoring.listing import Listing
from tests.support.commands import Command, everything_below
from tests.support.tiny import (
    drawn_sample,
    read_rows,
    tiny_run,
    write_drawn_cohort,
    write_manifest,
)

# help


@pytest.mark.parametrize(
    ("words", "taught"),
    [
        ([], ["phantom", "check", "train-cv", "report", "weights", "pretrain-hed"]),
        (["phantom"], ["--out", "--images", "--size", "1600x1200", "contact_sheet.png"]),
        (["check"], ["--data", "manifest.csv", "row, file, reason", "remedy"]),
        (
            ["train-cv"],
            ["--data", "--recipe", "--out", "--resume", "--set", "folds.count=3", "ray job submit",
             "report.html", "bundle/"],
        ),
        (["report"], ["RUN_DIR", "stored results"]),
        (
            ["labels", "merge"],
            ["LABELS_FOLDER", "--into", "--out", "--replace", "manifest.csv.before",
             "skinray labels merge corrections --into cohort"],
        ),
        (["weights"], ["list", "fetch", "import"]),
        (["weights", "import"], ["nothing in it is executed"]),
        (["pretrain-hed"], ["BSDS500", "--out", "--epochs"]),
    ],
)  # fmt: skip
def test_help_teaches(skinray: Command, words: list[str], taught: list[str]) -> None:
    ended = skinray(*words, "--help")
    assert ended.code == 0
    for text in taught:
        assert text in " ".join(ended.out.split()), text


def test_version(skinray: Command) -> None:
    assert skinray("--version").out == f"skinray {__version__}\n"


def test_no_verb_gives_the_help(skinray: Command) -> None:
    assert "train-cv" in skinray().out


@pytest.mark.parametrize(
    "words", [["frobnicate"], ["check"], ["phantom", "--out", "x", "--images", 0]]
)
def test_bad_usage_is_code_2(skinray: Command, words: list[Any]) -> None:
    ended = skinray(*words)
    assert ended.code == 2
    assert "Traceback" not in ended.err


# phantom and check


def test_phantoms_are_drawn_and_checked(skinray: Command, tmp_path: Path) -> None:
    out = tmp_path / "phantoms"
    drawn = skinray("phantom", "--out", out, "--images", 3, "--size", "208x192", "--subjects", 3)
    assert drawn.code == 0, drawn.err
    assert f"Preview: {out / 'contact_sheet.png'}" in drawn.out
    assert (out / "contact_sheet.png").is_file()
    assert len(read_rows(out)) == 3
    checked = skinray("check", "--data", out, "--folds", 3)
    assert checked.code == 0, checked.err
    assert f"{out}: no problems found in 3 images" in checked.out


def test_check_notes_what_the_user_should_know(skinray: Command, cohort: Path) -> None:
    rows = read_rows(cohort)
    rows[3]["count"] = ""
    write_manifest(cohort, rows)
    ended = skinray("check", "--data", cohort)
    assert ended.code == 0
    assert "note: group A has 3 subjects: some of the 5 folds will not contain it" in ended.out
    assert "note: 1 image without an expert's count" in ended.out


def test_labels_are_merged_and_checked(skinray: Command, cohort: Path, tmp_path: Path) -> None:
    made = write_drawn_cohort(tmp_path / "labels", images=2)
    rows = read_rows(made)
    for at, row in enumerate(rows):
        row |= {"source": "corrected", "subject": "S1", "group": ""}
        cv2.imwrite(str(made / row["image"]), drawn_sample(20 + at).image)
    write_manifest(made, rows)
    ended = skinray("labels", "merge", made, "--into", cohort)
    assert ended.code == 0, ended.err
    assert "added: 2 images of 1 subject, 0 of them new" in ended.out
    assert f"kept as {cohort / 'manifest.csv.before'}" in ended.out
    assert f"{cohort}: no problems found in 12 images" in ended.out
    assert "note: 2 of 12 labels were pre-drawn by a model" in ended.out
    (made / rows[0]["nerves"]).write_bytes((made / rows[1]["nerves"]).read_bytes())
    again = skinray("labels", "merge", made, "--into", cohort)
    assert again.code == 1
    assert f"error: {made}: 1 problem" in again.err
    assert "the cohort has the same image with another label (row 12, images/00-2.png)" in again.err


def test_check_lists_every_problem_at_once(skinray: Command, cohort: Path) -> None:
    (cohort / "images" / "02.png").write_text("not an image")
    (cohort / "nerves" / "05.png").unlink()
    ended = skinray("check", "--data", cohort, "--folds", 6)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0] == f"error: {cohort}: 3 problems"
    assert lines[1].startswith("  manifest.csv: 5 subjects cannot fill 6 folds")
    assert lines[2].startswith("  row 4, images/02.png: ")
    assert lines[3].startswith("  row 7, images/05.png: nerves file 'nerves/05.png' is missing")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "800"], "size '800': write WIDTHxHEIGHT in pixels"),
        (["--size", "0x600"], "size '0x600'"),
        (["--size", "\N{SUPERSCRIPT TWO}x600"], "write WIDTHxHEIGHT"),
        (["--size", "20x20"], "use at least 192 px"),
        (["--tissue", "nowhere"], "nowhere"),
    ],
)
def test_phantom_refuses(skinray: Command, tmp_path: Path, words: list[str], said: str) -> None:
    ended = skinray("phantom", "--out", tmp_path / "out", "--images", 1, *words)
    assert (ended.code, ended.out.count("Traceback")) == (1, 0)
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert everything_below(tmp_path) == set()


def test_phantom_leaves_a_strangers_folder_alone(skinray: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    ended = skinray("phantom", "--out", tmp_path, "--images", 1)
    assert ended.code == 1
    assert "choose another folder" in ended.err
    assert everything_below(tmp_path) == {tmp_path / "thesis.txt"}


def test_check_refuses_a_fold_unit_it_does_not_know(skinray: Command, cohort: Path) -> None:
    ended = skinray("check", "--data", cohort, "--fold-unit", "slide")
    assert ended.code == 1
    assert "unit: Input should be 'subject' or 'image'" in ended.err


# train-cv: what it hands on


class Shown(str):
    """Results that are shown as they are."""

    __slots__ = ()
    failures: tuple[str, ...] = ()


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the run; record what it was called with."""
    from skinray.cluster.train import biopsies as crossval
    from skinray.report.biopsies import tables

    calls: list[tuple[Any, ...]] = []

    def run(data: Path, out: Path, settings: Any, *, resume: bool) -> Shown:
        calls.append((data, out, settings, resume))
        return Shown("results")

    monkeypatch.setattr(crossval, "train_cv", run)
    monkeypatch.setattr(tables, "tables_text", lambda results: f"tables of {results}")
    return calls


def test_options_become_settings(
    skinray: Command, handed: list[tuple[Any, ...]], cohort: Path
) -> None:
    recipe, out = cohort.parent / "own.yaml", cohort.parent / "run"
    recipe.write_text(to_yaml(tiny_run()), encoding="utf-8")
    ended = skinray(
        "train-cv", "--data", cohort, "--recipe", recipe, "--out", out, "--resume", "--seed", 7,
        "--workers", 2, "--fold-unit", "image", "--set", "nerve.main.train.learning_rate=1e-4",
        "--set", "nerve.main.grid={train.weight_decay: [1e-5, 0]}",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    changes = {
        "seed": 7, "cluster.workers": 2, "folds.unit": "image",
        "nerve.main.train.learning_rate": 1e-4,
        "nerve.main.grid": {"train.weight_decay": (1e-5, 0)},
    }  # fmt: skip
    assert handed == [(cohort, out, tiny_run().override(changes), True)]
    assert ended.out.splitlines() == [
        "tables of results", f"Bundle: {out / 'bundle'}", f"Report: {out / 'report.html'}",
    ]  # fmt: skip


def test_a_plan_is_stored_and_a_resumed_run_keeps_it(
    skinray: Command, handed: list[tuple[Any, ...]], cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skinray.learning.auto import plan as plans

    def planned(data: Path, hours: float | None, *, anyway: bool) -> plans.Plan:
        assert not anyway
        return plans.Plan(tiny_run(seed=int(hours or 0)), (plans.PlanLine("budget", "3 h", "why"),))

    monkeypatch.setattr(plans, "plan_for", planned)
    out = cohort.parent / "new" / "run"
    words = ("train-cv", "--data", cohort, "--out", out)
    shown = skinray(*words, "--hours", 3, "--plan-only")
    assert shown.code == 0, shown.err
    assert "budget" in shown.out
    assert f"Settings: {out / 'settings.yaml'}" in shown.out
    assert handed == []
    assert skinray(*words, "--hours", 5, "--resume").code == 0
    assert handed == [(cohort, out, tiny_run(seed=3), True)]
    refused = skinray("train-cv", "--recipe", "demo", "--plan-only")
    assert (refused.code, "need --recipe auto, not demo" in refused.err) == (1, True)


def test_without_data_the_demo_cohort_is_drawn_once(
    skinray: Command, handed: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def write(folder: Path, images: int, *_: object, progress: Any, **__: object) -> None:
        drawn.append(folder)
        folder.mkdir()
        (folder / "manifest.csv").write_text("image\n")
        progress(images, images)

    monkeypatch.setattr(run_folder, "write_cohort", write)
    monkeypatch.chdir(tmp_path)
    assert skinray("train-cv", "--out", "run").code == 0
    assert skinray("train-cv", "--out", "run", "--resume").code == 0
    assert drawn == [tmp_path / "run-cohort"]
    assert [call[:2] for call in handed] == [(tmp_path / "run-cohort", tmp_path / "run")] * 2


def test_a_job_runs_the_command(monkeypatch: pytest.MonkeyPatch, cohort: Path, capsys: Any) -> None:
    job = Path(cli.__file__).parents[2] / "jobs" / "train_cv.py"
    monkeypatch.setattr(sys, "argv", [str(job), "--data", str(cohort), "--recipe", "papre"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(job), run_name="__main__")
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: no recipe 'papre'")


# the other verbs


def test_a_report_needs_a_finished_run(skinray: Command, tmp_path: Path) -> None:
    (tmp_path / OWNER).touch()
    ended = skinray("report", tmp_path)
    assert ended.code == 1
    assert "no results.json; the run has not finished" in ended.err
    assert list(tmp_path.iterdir()) == [tmp_path / OWNER]


def test_a_report_of_no_run_says_what_to_give(skinray: Command, tmp_path: Path) -> None:
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir(parents=True)
    said = {
        tmp_path / "gone": "no such folder; give the --out folder of a run",
        tmp_path / "run": "not the folder of a run; give the --out folder of one",
    }
    for folder, why in said.items():
        assert skinray("report", folder).err == f"error: {folder}: {why}\n"
    (tmp_path / "run" / "results.json").touch()
    inside = skinray("report", bundle).err
    assert inside == f"error: {bundle}: inside the folder of a run; give {tmp_path / 'run'}\n"


@pytest.mark.parametrize("name", ["Manifest.csv", "MANIFEST.CSV", "manifest.csv.csv"])
def test_a_manifest_of_another_spelling_is_named(
    skinray: Command, cohort: Path, tmp_path: Path, name: str
) -> None:
    (cohort / "manifest.csv").rename(cohort / name)
    ended = skinray("check", "--data", cohort)
    assert f"manifest.csv: missing, but there is {name}: rename {name} to manifest.csv" in ended.err
    with pytest.raises(CohortError, match=f"rename {name} to manifest.csv, so that it is read"):
        Listing(str(cohort))


def test_the_folder_above_a_cohort_leads_to_it(skinray: Command, cohort: Path) -> None:
    ended = skinray("check", "--data", cohort.parent)
    assert f"missing: give the folder that holds it, for example {cohort}" in ended.err
    assert ended.code == 1


def test_one_subject_fills_no_folds_whatever_their_number(skinray: Command, cohort: Path) -> None:
    rows = read_rows(cohort)
    write_manifest(cohort, [row | {"subject": "only", "group": "A"} for row in rows])
    ended = skinray("check", "--data", cohort, "--folds", 2)
    assert "1 subject cannot fill 2 folds: add images of at least one more subject" in ended.err
    assert "--fold-unit image" in ended.err
    assert skinray("check", "--data", cohort, "--folds", 2, "--fold-unit", "image").code == 0


def test_a_bundle_is_found_from_what_lies_near_it(tmp_path: Path) -> None:
    bundle = tmp_path / "run" / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text("{}", encoding="utf-8")
    near = {
        bundle.parent: f"no bundle.json; give {bundle}",
        bundle / "bundle.json": f"no bundle.json; give its folder, {bundle}",
        tmp_path / "gone": "no bundle.json; there is no such folder: correct the path",
    }
    for path, why in near.items():
        with pytest.raises(BundleError) as error:
            load_bundle(path)
        assert str(error.value) == f"{path}: {why}"


def test_weights_are_listed(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path))
    ended = skinray("weights", "list")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "hed_bsds500 (hed; in cache: no)"
    assert lines[2].startswith("    address: http")


def test_unknown_weights_are_named(skinray: Command) -> None:
    for words in (["fetch", "unheard_of"], ["import", "unheard_of", "x.pt"]):
        ended = skinray("weights", *words)
        assert ended.code == 1
        assert "unknown weights 'unheard_of': use one of hed_bsds500" in ended.err


def test_pretraining_needs_its_images(skinray: Command, tmp_path: Path) -> None:
    ended = skinray("pretrain-hed", "--data", tmp_path, "--out", tmp_path / "out")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {tmp_path}")
    assert list(tmp_path.iterdir()) == []


# what is caught and what is not


def ended_by(error: BaseException) -> int:
    job = typer.Typer(pretty_exceptions_enable=False)

    @job.command()
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        cli.guarded(lambda: job([]))
    return int(end.value.code or 0)


def test_a_disk_that_refuses_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(PermissionError(13, "Permission denied", "/runs")) == 1
    assert capsys.readouterr().err == (
        "error: /runs: Permission denied; check the path, the permissions and the disk\n"
    )


def test_markup_in_a_message_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(SettingsError("label '[red]x[/red]' :smile:")) == 1
    assert capsys.readouterr().err == "error: label '[red]x[/red]' :smile:\n"


INTERRUPTED = 130  # what typer exits with after Ctrl-C
RUNS = {
    "train-cv": ("skinray.cluster.train.biopsies.train_cv", ["--data", "a b", "--recipe", "paper"]),
    "train-photos": (
        "skinray.cluster.train.photos.train_photos",
        ["--data", "ward", "--public", "hgr:HGR", "--set", "seed=1"],
    ),
    "score": ("skinray.cluster.score.run.score", ["--images", "in/*.png", "--um-per-px", "0.5"]),
}


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("verb", RUNS)
@pytest.mark.parametrize("resumed", [[], ["--resume"]])
def test_ctrl_c_prints_the_command_that_goes_on(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, resumed: list[str]
) -> None:
    place, words = RUNS[verb]
    monkeypatch.setattr(place, interrupted)
    words = [verb, *words, "--out", str(tmp_path / "my run"), *resumed]
    ended = skinray(*words)
    assert ended.code == INTERRUPTED
    _, command = ended.err.rsplit("Stopped. Go on with:\n", 1)
    assert shlex.split(command.splitlines()[0]) == [
        "skinray",
        *words,
        *["--resume"][len(resumed) :],
    ]


def test_ctrl_c_names_the_run_folder_that_skinray_chose(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINRAY_RUNS", str(tmp_path))
    monkeypatch.setattr(RUNS["train-cv"][0], interrupted)
    command = skinray("train-cv", "--data", "in", "--recipe", "paper").err.splitlines()[1]
    *words, out, resume = shlex.split(command)
    assert words == ["skinray", "train-cv", "--data", "in", "--recipe", "paper", "--out"]
    assert Path(out).parent == tmp_path
    assert resume == "--resume"


def test_ctrl_c_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["skinray", "score", "--out", "ftp://me:secret@host/run"])
    with pytest.raises(KeyboardInterrupt), continued("ftp://me:secret@host/run"):
        interrupted()
    assert "skinray score --out ftp://me@host/run --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "shown"),
    [("/lib/skinray/__main__.py", "python -m skinray"), ("jobs/score.py", "python jobs/score.py")],
)
def test_ctrl_c_names_the_program_as_it_was_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--out=x"])
    with pytest.raises(KeyboardInterrupt), continued("x"):
        interrupted()
    assert capsys.readouterr().err == f"Stopped. Go on with:\n  {shown} --out=x --resume\n"


@pytest.mark.parametrize("scale", ["1_0", "nan", "0,5", "0x1", "\u0661"])
def test_a_scale_is_a_plain_number(skinray: Command, scale: str) -> None:
    ended = skinray("score", "--images", "in", "--out", "out", "--um-per-px", scale)
    assert ended.code == 2
    assert "is not a number" in ended.err
    said = skinray("score", "--images", "in", "--out", "out", "--set", "um_per_px=1_0").err
    assert "'1_0' is not a number: write it without _" in said


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError("no file in it")])
def test_our_own_mistakes_keep_their_trace(error: Exception) -> None:
    def call() -> None:
        raise error

    with pytest.raises(type(error)):
        cli.guarded(call)


@pytest.mark.parametrize(
    ("text", "size"), [("1600x1200", (1600, 1200)), ("8X9", (8, 9)), ("1x1", (1, 1))]
)
def test_parse_size(text: str, size: tuple[int, int]) -> None:
    assert biopsies.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "8", "8x", "x9", "-8x9", "8x9x10", "8.5x9", "0x9", "²x9"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(SettingsError, match="write WIDTHxHEIGHT"):
        biopsies.parse_size(text)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("seed=3", ("seed", 3)),
        (" a.b = 1e-4", ("a.b", 1e-4)),
        ("a=null", ("a", None)),
        ("a=", ("a", None)),
        ("a=x=y", ("a", "x=y")),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=true", ("a", True)),
    ],
)
def test_parse_assignment(text: str, pair: tuple[str, object]) -> None:
    assert parse_assignment(text) == pair


def test_the_error_that_ends_a_command_is_json_where_the_log_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise SettingsError("lay\nout: no such layout; choose fused or separate")

    monkeypatch.setenv("SKINRAY_RUN_ID", "r")
    monkeypatch.setenv("SKINRAY_LOG", "json")
    before = logging.getLogger("skinray").handlers[:]
    with pytest.raises(SystemExit, match="1"):
        guarded(fails)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[-1]["message"] == "error: lay\nout: no such layout; choose fused or separate"
    assert lines[-1]["level"] == "ERROR"
    logging.getLogger("skinray").handlers = before
    monkeypatch.setenv("SKINRAY_LOG", "xml")
    with pytest.raises(SystemExit, match="1"):
        guarded(fails)
    assert capsys.readouterr().err.startswith("error: SKINRAY_LOG is 'xml'")


def test_check_takes_the_folds_that_training_would(skinray: Command, cohort: Path) -> None:
    """Four subjects fill no five folds, but `train-cv` then takes four."""
    rows = read_rows(cohort)
    subjects = sorted({row["subject"] for row in rows})
    write_manifest(
        cohort,
        [row | {"subject": subjects[at % 4], "group": "A"} for at, row in enumerate(rows)],
    )
    assert skinray("check", "--data", cohort).code == 0
    ended = skinray("check", "--data", cohort, "--folds", 5)
    assert "4 subjects cannot fill 5 folds" in ended.err
