"""``skinray score`` in a copy of the repository: ``python jobs/score_cohort.py``."""

from skinray.cli import run_job
from skinray.cli.results import score

if __name__ == "__main__":
    run_job(score)
