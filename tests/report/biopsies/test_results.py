from __future__ import annotations

from pathlib import Path

import pandas as pd

from skinray.report.biopsies.results import write_trials
from tests.support.fake_run import fake_results


def test_one_row_a_trial_and_one_column_a_searched_setting(tmp_path: Path) -> None:
    results = fake_results(Path("cohort"))
    path = write_trials(results, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["trials.csv"]
    table = pd.read_csv(path, keep_default_na=False)
    assert list(table["trial"]) == [trial.trial for trial in results.trials]
    rates = [str(trial.params["train.learning_rate"]) for trial in results.trials]
    assert list(table["params.train.learning_rate"].astype(str)) == rates
    for name in ("phase", "stage", "arm", "split", "status", "score", "epochs", "error"):
        assert name in table
