"""Pretrain HED on BSDS500: ``python jobs/pretrain_hed.py --data BSDS500 --out weights``."""

from skinray.cli import pretrain_hed, run_job

if __name__ == "__main__":
    run_job(pretrain_hed)
