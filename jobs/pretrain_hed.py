"""``skinray pretrain-hed`` in a copy of the repository: ``python jobs/pretrain_hed.py``."""

from skinray.cli import run_job
from skinray.cli.biopsies import pretrain_hed

if __name__ == "__main__":
    run_job(pretrain_hed)
