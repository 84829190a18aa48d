"""``skinray train-photos`` in a copy of the repository: ``python jobs/train_photos.py``."""

from skinray.cli import run_job
from skinray.cli.photos import train_photos

if __name__ == "__main__":
    run_job(train_photos)
