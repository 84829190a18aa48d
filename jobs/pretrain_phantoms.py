"""Pretrain on drawn biopsies: ``python jobs/pretrain_phantoms.py --out weights``."""

from skinray.cli import run_job
from skinray.cli.biopsies import pretrain_phantoms

if __name__ == "__main__":
    run_job(pretrain_phantoms)
