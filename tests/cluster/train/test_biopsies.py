"""The main job from a folder to a report, on a local Ray."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest
from rich.console import Console

from benchmarks.chaos.jobs import tables
from skinray.cluster.train import run as train_run
from skinray.cluster.train.biopsies import BiopsyJob, train_cv
from skinray.cluster.train.resources import Resources
from skinray.cluster.train.run import TrainingRun
from skinray.cluster.train.search import GridSearch, Search
from skinray.cluster.train.tune import TrialResult
from skinray.config.biopsies import RunSettings
from skinray.errors import NotLearnedError, SettingsError, TrainingError
from skinray.files import sha256_of
from skinray.images.cohort.manifest import read_manifest
from skinray.images.read import read_image
from skinray.learning import bundle
from skinray.learning.bundle.info import IN_TRAINING, read_info
from skinray.learning.checkpoint import EpochEnd
from skinray.learning.search import make_splits
from skinray.learning.spec import TrialSpec
from skinray.learning.trial import TrialOutcome
from skinray.learning.validation import Judgement
from skinray.report.biopsies.results import RunResults
from skinray.report.biopsies.scores import score_run
from tests.cluster.conftest import small
from tests.support.tiny import cohort_of, tiny_run, tiny_spec

pytestmark = pytest.mark.ray


# A learning rate at which the first step is not finite.
DIVERGES = 1e25


def settings() -> RunSettings:
    """A small run with a configuration of the nerve network that does not train."""
    return small().override(
        {
            "nerve.main.grid": {"train.learning_rate": (1e-3, DIVERGES, 3e-3)},
            "nerve.main.train.max_skipped_steps": 0,
        }
    )


@pytest.fixture(scope="module")
def run(
    ray_session: Any, small_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunResults]:
    out = tmp_path_factory.mktemp("run") / "first"
    return out, train_cv(small_cohort, out, settings())


def test_every_image_is_held_out_once(run: tuple[Path, RunResults], small_cohort: Path) -> None:
    _, results = run
    cohort = read_manifest(small_cohort)
    assert sorted(row.image for row in results.counts) == sorted(b.name for b in cohort.biopsies)
    expert = {b.name: b.count for b in cohort.biopsies}
    assert {row.image: row.expert for row in results.counts} == expert
    by_fold: dict[int, set[str]] = {}
    for row in results.counts:
        by_fold.setdefault(row.fold, set()).add(row.subject)
    assert sum(len(subjects) for subjects in by_fold.values()) == results.subjects == 6


def test_the_search_has_one_trial_per_configuration_and_fold(run: tuple[Path, RunResults]) -> None:
    _, results = run
    search = [trial for trial in results.trials if trial.phase == "tune"]
    done = [trial for trial in search if trial.params["train.learning_rate"] != DIVERGES]
    assert len(done) == 2 * 2 * 3
    assert len(search) == len(done) + 3
    assert all(trial.status == "done" and trial.score is not None for trial in done)
    assert len([trial for trial in results.trials if trial.phase == "fit"]) == 2 * (3 + 1)


def test_each_fold_is_trained_with_the_best_of_its_own_trials(run: tuple[Path, RunResults]) -> None:
    out, results = run
    for fit in (trial for trial in results.trials if trial.phase == "fit"):
        scores: dict[float, list[float]] = {}
        for trial in results.trials:
            if (trial.phase, trial.stage, trial.status) == ("tune", fit.stage, "done"):
                told = (out / "trials" / trial.trial / "outcome.json").read_text(encoding="utf-8")
                own = scores.setdefault(trial.params["train.learning_rate"], [])
                evidence = json.loads(told)["evidence"]
                own += [v for name, v in evidence.items() if fit.split in (name, "all")]
        assert fit.params["train.learning_rate"] == max(
            scores, key=lambda rate: fmean(scores[rate])
        )


def test_the_run_leaves_what_it_promises(run: tuple[Path, RunResults]) -> None:
    out, results = run
    for name in ("report.html", "report.json", "results.json", "trials.csv", "settings.yaml"):
        assert (out / name).stat().st_size > 0, name
    assert RunResults.load(out) == results
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_the_bundle_counts_new_images(run: tuple[Path, RunResults], small_cohort: Path) -> None:
    out, _ = run
    loaded = bundle.load(out / "bundle")
    image = read_image(read_manifest(small_cohort).biopsies[0].image)
    found = loaded.predict(image.pixels, um_per_px=0.5)
    assert found.nerve.shape == found.dermis.shape == image.pixels.shape[:2]
    assert found.crossings.count == len(found.crossings.points)
    assert loaded.info.um_per_px == 0.5


def test_the_bundle_knows_its_training_images_and_its_error(
    run: tuple[Path, RunResults], small_cohort: Path
) -> None:
    info = read_info(run[0] / "bundle")
    files = sorted((small_cohort / "images").iterdir())
    assert info.trained_on == {sha256_of(path) for path in files}
    assert IN_TRAINING in info.note_on(sha256_of(files[0]))
    assert info.synthetic  # phantoms
    limits = score_run(run[1]).pooled.agreement.limits
    assert info.limits_of_agreement == tuple(round(limit, 2) for limit in limits or ())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_tables(
    run: tuple[Path, RunResults], small_cohort: Path, tmp_path: Path
) -> None:
    _, first = run
    again = train_cv(small_cohort, tmp_path / "second", settings())
    assert tables(again) == tables(first)


def test_a_finished_run_is_not_overwritten_and_resumes_at_once(
    run: tuple[Path, RunResults], small_cohort: Path
) -> None:
    out, first = run
    with pytest.raises(SettingsError, match="--resume"):
        train_cv(small_cohort, out, settings())
    weights = sorted(out.glob("trials/*/weights.safetensors"))
    before = [path.stat().st_mtime_ns for path in weights]
    resumed = train_cv(small_cohort, out, settings(), resume=True)
    assert tables(resumed) == tables(first)
    assert [path.stat().st_mtime_ns for path in weights] == before
    with pytest.raises(SettingsError, match="other settings"):
        train_cv(small_cohort, out, settings().override({"seed": 9}), resume=True)


def test_a_diverging_configuration_is_reported_and_not_chosen(
    run: tuple[Path, RunResults],
) -> None:
    _, results = run
    failed = [trial for trial in results.trials if trial.status == "failed"]
    assert [trial.params for trial in failed] == [{"train.learning_rate": DIVERGES}] * 3
    assert {trial.stage for trial in failed} == {"nerve"}
    assert all("lower learning_rate" in trial.error for trial in failed)
    chosen = next(arm for arm in results.arms if arm.stage == "nerve").chosen
    assert chosen["train.learning_rate"] < DIVERGES


def test_a_search_that_a_full_disk_ended_chooses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it would choose by chance; the run ends and can be resumed."""

    def failing(specs: list[TrialSpec], *others: Any) -> list[TrialResult]:
        return [TrialResult(spec, tmp_path, None, "no space left on device") for spec in specs]

    monkeypatch.setattr(train_run, "run_trials", failing)
    job, run = made_up(tiny_run(), tmp_path)
    with pytest.raises(TrainingError, match="no space left on device"):
        job.train(run)


def made_up(settings: RunSettings, out: Path) -> tuple[BiopsyJob, TrainingRun]:
    """A run whose trials a test replaces; it has no images."""
    cohort, nothing = cohort_of([2] * 6), cast("Any", None)
    job = BiopsyJob(
        "data", cohort.biopsies, nothing, "", asked=settings, settings=settings, missing={},
        cohort=cohort, splits=make_splits(cohort, settings), um_per_px=None,
    )  # fmt: skip
    one = Resources(1, 0, (1, 1), 1)
    return job, TrainingRun(out, settings.cluster, nothing, one, Console(), "now", 0.0)


class Trials:
    """Pretended trials: a network learns only at a learning rate, or only if trained long enough.

    ``diverges``: the rate at which it has no outcome at all.
    """

    def __init__(self, rate: float = 0, epochs: int = 0, diverges: float = 0) -> None:
        self.rate, self.epochs, self.diverges = rate, epochs, diverges
        self.seen: list[TrialSpec] = []

    def __call__(self, specs: list[TrialSpec], *_: Any) -> list[TrialResult]:
        self.seen += specs
        return [self.result(spec) for spec in specs]

    def result(self, spec: TrialSpec) -> TrialResult:
        train, nowhere = spec.arm.train, Path("nowhere")
        if train.learning_rate == self.diverges:
            return TrialResult(spec, nowhere, None, "loss nan: lower learning_rate", diverged=True)
        learned = train.learning_rate == self.rate or 0 < self.epochs <= train.epochs
        judgement = Judgement(score=0.9 if learned else 0.1, chance=0.1, marked=0.2, truth=0.2)
        outcome = TrialOutcome(
            key=spec.key, fingerprint="f", score=judgement.score, seconds=1.0,
            evidence=dict.fromkeys(spec.evidence, judgement.score), judgement=judgement,
            history=[EpochEnd(0, 0.5, train.learning_rate, None, 4, 1.0)],
        )  # fmt: skip
        return TrialResult(spec, nowhere, outcome)


@pytest.mark.parametrize(
    ("works", "diverges", "trainings", "rate"),
    [(1e-3, 0, 1, 1e-3), (2e-4, 0, 2, 2e-4), (5e-3, 0, 3, 5e-3), (2e-4, 1e-3, 2, 2e-4),
     (9.0, 0, 3, 1e-3), (9.0, 1e-3, 3, 2e-4)],
)  # fmt: skip
def test_a_network_that_did_not_learn_is_trained_at_other_rates(
    works: float, diverges: float, trainings: int, rate: float,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trials = Trials(works, diverges=diverges)
    monkeypatch.setattr(train_run, "run_trials", trials)
    job, run = made_up(tiny_run(tune__second_tries=True), tmp_path)
    specs = [tiny_spec(arm__train__learning_rate=1e-3)]
    ((spec, outcome),) = job._until_learned(run, specs, "Training")
    assert len(trials.seen) == trainings
    assert spec.arm.train.learning_rate == pytest.approx(rate)
    assert outcome.learned == (works < 1)


def test_a_network_that_never_trained_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_run, "run_trials", Trials(diverges=1e-3))
    job, run = made_up(tiny_run(), tmp_path)
    with pytest.raises(NotLearnedError, match="lower learning_rate"):
        job._until_learned(run, [tiny_spec(arm__train__learning_rate=1e-3)], "Training")


@pytest.mark.parametrize("second", [True, False])
def test_a_search_that_learned_nothing_runs_again_for_all_epochs(
    second: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_run(
        tune__second_tries=second, tune__epochs_fraction=0.25,
        nerve__main__train__epochs=8, dermis__main__train__epochs=40,
    )  # fmt: skip
    trials = Trials(epochs=8)
    monkeypatch.setattr(train_run, "run_trials", trials)
    job, run = made_up(settings, tmp_path)
    grid = GridSearch(settings, job.cohort, job.splits, "data")
    found = grid.run(run)
    by_stage = {
        stage: {r.spec.arm.train.epochs for r in found.last if r.spec.stage == stage}
        for stage in ("nerve", "dermis")
    }
    # The dermis learned in a quarter of its epochs; the nerves needed all of theirs.
    assert by_stage == {"nerve": {8 if second else 2}, "dermis": {10}}
    chosen = grid.chosen(found)
    assert {key[0] for key in chosen} == ({"nerve", "dermis"} if second else {"dermis"})


class Ranked(Trials):
    """Pretended trials that score higher the nearer their rate is to one, which differs by fold."""

    def result(self, spec: TrialSpec) -> TrialResult:
        found = super().result(spec)
        assert found.outcome is not None
        evidence = {
            split: 1 - abs(spec.arm.train.learning_rate - self.rate - 0.1 * (split == "fold-2"))
            for split in spec.evidence
        }
        score = max(evidence.values(), default=0.0)
        return TrialResult(spec, found.folder, found.outcome.model_copy(
            update={"key": spec.key, "score": score, "evidence": evidence}
        ))  # fmt: skip


RATES = tuple(round(0.1 * at, 1) for at in range(1, 10))


def halved(
    halving: int, epochs: int, trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[GridSearch, Search, list[TrialSpec]]:
    """Search nine rates of the nerve network; return its trials too."""
    monkeypatch.setattr(train_run, "run_trials", trials)
    settings = tiny_run(tune__halving=halving).override(
        {"nerve.main.grid": {"train.learning_rate": RATES}, "nerve.main.train.epochs": epochs}
    )
    job, run = made_up(settings, tmp_path)
    grid = GridSearch(settings, job.cohort, job.splits, "data")
    search = grid.run(run)
    assert [result.spec for result in search.tried] == trials.seen
    seen = [one for one in trials.seen if (one.stage, one.arm.label) == ("nerve", "U-Net")]
    assert len({spec.key for spec in seen}) == len(seen)
    return grid, search, seen


def test_halving_drops_most_of_a_large_grid_and_keeps_each_splits_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, every, full = halved(1, 9, Ranked(0.6, epochs=1), tmp_path, monkeypatch)
    grid, search, seen = halved(3, 9, Ranked(0.6, epochs=1), tmp_path, monkeypatch)
    assert grid.chosen(search) == whole.chosen(every)
    chosen = grid.chosen(search)
    rates = {s: chosen["nerve", "U-Net", s]["train.learning_rate"] for s in ("fold-1", "fold-2")}
    assert rates["fold-2"] == 0.7 != rates["fold-1"]
    assert {spec.arm.train.epochs for spec in full} == {9}
    by_epochs = Counter(spec.arm.train.epochs for spec in seen)
    assert by_epochs == {3: len(full), 9: by_epochs[9]}
    # Three rates of nine for each split; two splits that differ add one of their own.
    assert len(full) * 3 / 9 <= by_epochs[9] <= len(full) * 4 / 9


def test_halving_drops_nothing_while_nothing_is_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, search, seen = halved(3, 9, Trials(epochs=9), tmp_path, monkeypatch)
    assert Counter(spec.arm.train.epochs for spec in seen) == {3: len(seen) / 2, 9: len(seen) / 2}
    assert search.still_in == {}


def test_halving_has_no_round_that_is_as_long_as_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, seen = halved(3, 1, Ranked(0.6, epochs=1), tmp_path, monkeypatch)
    assert {spec.arm.train.epochs for spec in seen} == {1}
    assert len({(spec.split, str(spec.params)) for spec in seen}) == len(seen)


def test_a_search_that_learned_nothing_is_repeated_in_rounds_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = Trials(epochs=10)
    monkeypatch.setattr(train_run, "run_trials", trials)
    settings = tiny_run(
        tune__halving=3, tune__second_tries=True, tune__epochs_fraction=0.5,
        nerve__main__train__epochs=18, nerve__main__grid={"train.learning_rate": RATES},
    )  # fmt: skip
    job, run = made_up(settings, tmp_path)
    grid = GridSearch(settings, job.cohort, job.splits, "data")
    search = grid.run(run)
    seen = [one for one in trials.seen if (one.stage, one.arm.label) == ("nerve", "U-Net")]
    assert sorted({one.arm.train.epochs for one in seen}) == [3, 6, 9, 18]
    assert {key[0] for key in grid.chosen(search)} >= {"nerve"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_halving_chooses_what_the_whole_grid_chooses(
    ray_session: Any, small_cohort: Path, tmp_path: Path
) -> None:
    """On a seeded cohort, with rates far enough apart to matter after few epochs."""
    grid = {"train.learning_rate": (1e-5, 1e-4, 1e-3, 1e-2)}
    chosen = []
    for halving in (1, 3):
        run = small(6).override({"nerve.main.grid": grid, "tune.halving": halving})
        results = train_cv(small_cohort, tmp_path / f"by-{halving}", run)
        chosen.append({
            trial.trial.rpartition("-fold-")[2]: trial.params
            for trial in results.trials
            if (trial.phase, trial.stage) == ("fit", "nerve")
        })  # fmt: skip
    assert chosen[0] == chosen[1]
