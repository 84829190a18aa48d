"""``skinray train-cv`` in a copy of the repository: ``python jobs/train_cv.py``."""

from skinray.cli import run_job
from skinray.cli.biopsies import train_cv

if __name__ == "__main__":
    run_job(train_cv)
