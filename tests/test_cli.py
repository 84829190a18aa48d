"""The command line: what it teaches, what it refuses, and that a refusal leaves nothing behind."""

from __future__ import annotations

import json
import pickle
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny import read_rows, tiny_run, write_manifest

from skinray import __version__, cli, run_paths
from skinray.errors import SettingsError
from skinray.settings import to_yaml

Command = Callable[..., "Ended"]
TWO_SIDED_LINE = {
    "type": "Feature", "properties": {},
    "geometry": {"type": "LineString", "coordinates": [[0, 48], [128, 48]]},
}  # fmt: skip
LOOSE_LINE = {
    "type": "Feature", "properties": {},
    "geometry": {"type": "LineString", "coordinates": [[50, 48], [60, 48]]},
}  # fmt: skip


class Ended:
    """How a command ended: its exit code and what it said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def skinray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command as the console script does, in this process."""

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["skinray", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def cohort(tiny_cohort: Path, tmp_path: Path) -> Path:
    """A cohort folder of one's own, to damage."""
    return shutil.copytree(tiny_cohort, tmp_path / "cohort")


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray must not be started: whoever tries is told so by a trace."""
    from skinray.cluster import crossval

    def started() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(crossval, "session", started)


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


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


def test_no_word_gives_the_help(skinray: Command) -> None:
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
    assert f"Look at: {out / 'contact_sheet.png'}" in drawn.out
    assert (out / "contact_sheet.png").is_file()
    assert len(read_rows(out)) == 3
    checked = skinray("check", "--data", out, "--folds", 3)
    assert checked.code == 0, checked.err
    assert f"{out}: no problem found in 3 images" in checked.out


def test_check_notes_what_should_be_known(skinray: Command, cohort: Path) -> None:
    rows = read_rows(cohort)
    rows[3]["count"] = ""
    write_manifest(cohort, rows)
    ended = skinray("check", "--data", cohort)
    assert ended.code == 0
    assert "note: group A has 3 subject(s): some of the 5 folds lack it" in ended.out
    assert "note: 1 image(s) without the expert's count" in ended.out


def test_check_says_every_problem_at_once(skinray: Command, cohort: Path) -> None:
    (cohort / "images" / "02.png").write_text("not an image")
    (cohort / "nerves" / "05.png").unlink()
    ended = skinray("check", "--data", cohort, "--folds", 6)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0] == f"error: {cohort}: 3 problem(s)"
    assert lines[1].startswith("  manifest.csv: 5 subject(s) cannot fill 6 folds")
    assert lines[2].startswith("  row 4, images/02.png: ")
    assert lines[3].startswith("  row 7, images/05.png: nerves file 'nerves/05.png' is missing")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "800"], "size '800': write WIDTHxHEIGHT in pixels"),
        (["--size", "0x600"], "size '0x600'"),
        (["--size", "\N{SUPERSCRIPT TWO}x600"], "write WIDTHxHEIGHT"),
        (["--size", "20x20"], "ask for 192 px at least"),
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


# train-cv: refused before Ray starts and before a file is written


def damaged(cohort: Path, kind: str) -> None:
    """Do one bad thing to a cohort."""
    rows = read_rows(cohort)
    image = cohort / "images" / "03.png"
    if kind == "mask of another size":
        shutil.copy(cohort / "nerves" / "04.png", cohort / "nerves" / "03.png")
        crop(cohort / "nerves" / "03.png", (60, 80))
    elif kind == "truncated JPEG":
        write_half_jpeg(cohort / "images" / "03.jpg")
        rows[3]["image"] = "images/03.jpg"
    elif kind == "text named .png":
        image.write_text("a note")
    elif kind == "empty file":
        image.write_bytes(b"")
    elif kind == "missing file":
        image.unlink()
    elif kind == "no manifest":
        (cohort / "manifest.csv").unlink()
        return
    elif kind == "no column image":
        rows = [{k: v for k, v in row.items() if k != "image"} for row in rows]
    elif kind == "no column nerves":
        rows = [{k: v for k, v in row.items() if k != "nerves"} for row in rows]
    elif kind == "a subject in no fold":
        rows[3]["subject"] = ""
    elif kind == "fewer subjects than folds":
        for row in rows:
            row["subject"], row["group"] = "S" + str(int(row["subject"][1:]) % 3), "A"
    elif kind == "a line that closes nowhere":
        for row in rows:
            row["dermis"], row["dermis_side"] = "", "bottom"
            row["boundary"] = f"{Path(row['image']).stem}.geojson"
            line = LOOSE_LINE if row is rows[3] else TWO_SIDED_LINE
            (cohort / row["boundary"]).write_text(json.dumps(line))
    elif kind == "the same image twice":
        shutil.copy(cohort / "images" / "04.png", image)
    write_manifest(cohort, rows)


def crop(path: Path, shape: tuple[int, int]) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.crop((0, 0, shape[1], shape[0])).save(path)


def write_half_jpeg(path: Path) -> None:
    from PIL import Image

    with Image.open(path.with_suffix(".png")) as picture:
        picture.save(path, "JPEG")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "mask of another size",
            ["row 5", "nerves/03.png", "mask 60x80 does not match image 96x128"],
        ),
        ("truncated JPEG", ["row 5, images/03.jpg"]),
        ("text named .png", ["row 5, images/03.png"]),
        ("empty file", ["row 5, images/03.png", "is empty", "copy or export it again"]),
        ("missing file", ["row 5, images/03.png", "is missing", "restore it or correct the path"]),
        ("no manifest", ["manifest.csv"]),
        ("no column image", ["manifest.csv", "image"]),
        ("no column nerves", ["no image has a nerve label", "add a column nerves"]),
        ("a subject in no fold", ["row 5", "no subject, so the image belongs to no fold"]),
        ("fewer subjects than folds", ["3 subject(s) cannot fill 5 folds", "add subjects"]),
        ("a line that closes nowhere", ["row 5, 03.geojson", "closes nowhere"]),
        ("the same image twice", ["row 6, images/04.png", "same pixels as row 5"]),
    ],
)
def test_a_damaged_cohort_is_refused_before_ray_starts(
    skinray: Command, without_ray: None, cohort: Path, kind: str, said: list[str]
) -> None:
    damaged(cohort, kind)
    before = everything_below(cohort.parent)
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run")
    assert ended.code == 1
    assert ended.err.startswith(f"error: {cohort}: ")
    assert "problem(s)" in ended.err
    for text in said:
        assert text in ended.err, text
    assert len(ended.err.splitlines()) == 2
    assert everything_below(cohort.parent) == before


class _Evil:
    """Pickled, it would make a file when it is read back."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe", "papre"], "no recipe 'papre': use one of demo, paper, real-tissue"),
        (["--recipe", "absent.yaml"], "absent.yaml: cannot be read"),
        (["--set", "nerve.main.train.lr=1"], "unknown settings key 'nerve.main.train.lr': use one"),
        (["--set", "sead=1"], "unknown settings key 'sead'"),
        (["--set", "seed"], "--set 'seed': write path.to.setting=VALUE"),
        (["--set", "=1"], "write path.to.setting=VALUE"),
        (["--set", "seed=[1"], "--set 'seed=[1': value is not YAML (line 1, column 3: "),
        (["--set", "seed=minus"], "seed: Input should be a valid integer"),
        (["--fold-unit", "slide"], "folds.unit: Input should be 'subject' or 'image'"),
        (["--set", "folds.count=2"], "use 3 or more folds, or tune.validation 'held_out'"),
        (["--set", "folds.components_held_out=10"], "cannot hold out 10 of 10 images"),
        (["--set", "nerve.main.model.name=hedd"], "nerve HED not pretrained: unknown model 'hedd'"),
        (["--set", "nerve.main.model.options.wide=2"], "model 'hed' has no option wide"),
        (["--set", "dermis.main.train.side_weight=1"], "has no side outputs"),
        (["--set", "nerve.main.grid={train.lr: [1, 2]}"], "unknown settings key 'train.lr'"),
        (["--set", "nerve.main.model.weights=hed_bsds500"], "`skinray weights fetch hed_bsds500`"),
        (["--set", "nerve.main.model.weights=absent.pt"], "absent.pt is neither a file nor"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_ray_starts(
    skinray: Command, without_ray: None, cohort: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("SKINRAY_CACHE", str(cohort.parent / "cache"))
    before = everything_below(cohort.parent)
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run", *words)
    assert ended.code == 1, ended.err
    assert ended.err.startswith("error: ")
    assert said in ended.err
    assert len(ended.err.splitlines()) <= 2
    assert everything_below(cohort.parent) == before


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_pickle_for_weights_is_not_read(
    skinray: Command, without_ray: None, cohort: Path, name: str
) -> None:
    mark, path = cohort.parent / "the code ran", cohort.parent / name
    path.write_bytes(pickle.dumps(_Evil(mark), protocol=2))
    before = everything_below(cohort.parent)
    words = ["--set", f"nerve.main.model.weights={path}"]
    ended = skinray("train-cv", "--data", cohort, "--out", cohort.parent / "run", *words)
    assert ended.code == 1
    assert f"nerve HED not pretrained: {path}" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert everything_below(cohort.parent) == before


def test_a_pickle_is_not_imported(
    skinray: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKINRAY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(_Evil(tmp_path / "the code ran"), protocol=2))
    ended = skinray("weights", "import", "unet_lgg", path)
    assert ended.code == 1
    assert ended.err.startswith(f"error: {path}: ")
    assert everything_below(tmp_path) == {path}


def test_resuming_needs_a_folder(skinray: Command, without_ray: None, cohort: Path) -> None:
    ended = skinray("train-cv", "--data", cohort, "--resume")
    assert (ended.code, "name its folder" in ended.err) == (1, True)


@pytest.mark.parametrize("data", [True, False])
def test_a_strangers_folder_is_refused_before_anything_is_drawn(
    skinray: Command, without_ray: None, cohort: Path, data: bool
) -> None:
    out = cohort.parent / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    before = everything_below(cohort.parent)
    words = ["--data", cohort] if data else []
    ended = skinray("train-cv", "--out", out, *words)
    assert ended.code == 1
    assert "not empty and not a run; choose another --out" in ended.err
    assert everything_below(cohort.parent) == before


# train-cv: what it hands on


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Take the place of the run, and tell what it was called with."""
    from skinray.cluster import crossval
    from skinray.report import tables

    calls: list[tuple[Any, ...]] = []

    def run(data: Path, out: Path, settings: Any, *, resume: bool) -> str:
        calls.append((data, out, settings, resume))
        return "results"

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


def test_without_data_the_demo_cohort_is_drawn_once(
    skinray: Command, handed: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []

    def write(folder: Path, images: int, *_: object, progress: Any, **__: object) -> None:
        drawn.append(folder)
        folder.mkdir()
        (folder / "manifest.csv").write_text("image\n")
        progress(images, images)

    monkeypatch.setattr(run_paths, "write_cohort", write)
    monkeypatch.chdir(tmp_path)
    assert skinray("train-cv", "--out", "run").code == 0
    assert skinray("train-cv", "--out", "run", "--resume").code == 0
    assert drawn == [tmp_path / "run-cohort"]
    assert [call[:2] for call in handed] == [(tmp_path / "run-cohort", tmp_path / "run")] * 2


def test_a_job_runs_the_command(monkeypatch: pytest.MonkeyPatch, cohort: Path, capsys: Any) -> None:
    job = Path(cli.__file__).parents[1] / "jobs" / "train_cv.py"
    monkeypatch.setattr(sys, "argv", [str(job), "--data", str(cohort), "--recipe", "papre"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(job), run_name="__main__")
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("error: no recipe 'papre'")


# where runs go


def test_runs_go_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SKINRAY_RUNS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    out = run_paths.default_out("demo")
    assert out.parent == tmp_path / "runs"
    assert out.name.startswith("demo-")
    assert list(tmp_path.iterdir()) == []


def test_a_jobs_runs_go_where_the_cluster_does_not_delete_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKINRAY_RUNS", raising=False)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run_paths.default_out("demo").parent == tmp_path / "skinray-runs"
    monkeypatch.setenv("SKINRAY_RUNS", str(tmp_path / "own"))
    assert run_paths.default_out("demo").parent == tmp_path / "own"


# the other verbs


def test_a_report_needs_a_finished_run(skinray: Command, tmp_path: Path) -> None:
    ended = skinray("report", tmp_path)
    assert ended.code == 1
    assert "no results.json; the run has not finished" in ended.err
    assert list(tmp_path.iterdir()) == []


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


def test_a_disk_that_refuses_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(PermissionError(13, "Permission denied", "/runs")) == 1
    assert capsys.readouterr().err == (
        "error: /runs: Permission denied; check the path, its rights and the disk's space\n"
    )


def test_markup_in_a_message_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(SettingsError("label '[red]x[/red]' :smile:")) == 1
    assert capsys.readouterr().err == "error: label '[red]x[/red]' :smile:\n"


def test_an_interrupted_run_says_how_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by(KeyboardInterrupt()) == cli.INTERRUPTED
    assert "--resume" in capsys.readouterr().err


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
    assert cli.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "x", "8", "8x", "x9", "-8x9", "8x9x10", "8.5x9", "0x9", "²x9"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(SettingsError, match="write WIDTHxHEIGHT"):
        cli.parse_size(text)


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
    assert cli.parse_assignment(text) == pair
