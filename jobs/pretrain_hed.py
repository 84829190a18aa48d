"""Pretrain HED on BSDS500: ``python jobs/pretrain_hed.py --data BSDS500 --out weights``."""

from skinray.cli import run_job
from skinray.cli.biopsies import pretrain_hed

if __name__ == "__main__":
    run_job(pretrain_hed)
