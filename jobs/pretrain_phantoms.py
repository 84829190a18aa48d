"""``skinray pretrain-phantoms`` from the repository: ``python jobs/pretrain_phantoms.py``."""

from skinray.cli import run_job
from skinray.cli.biopsies import pretrain_phantoms

if __name__ == "__main__":
    run_job(pretrain_phantoms)
