"""All trials of a run as one table, for a spreadsheet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from skinray.report.results import RunResults
from skinray.report.score_tables import spreadsheet_cell


def write_trials(results: RunResults, run_dir: Path) -> Path:
    """Write ``trials.csv``: one row a trial, one column a searched setting."""
    rows = []
    for trial in results.trials:
        row = trial.model_dump(exclude={"params"})
        row |= {f"params.{key}": value for key, value in trial.params.items()}
        rows.append({key: spreadsheet_cell(value) for key, value in row.items()})
    path = run_dir / "trials.csv"
    partial = path.with_suffix(".csv.part")
    pd.DataFrame(rows).to_csv(partial, index=False)
    partial.replace(path)
    return path
