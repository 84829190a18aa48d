"""Cross-validated training: ``ray job submit --working-dir . -- python jobs/train_cv.py``."""

from skinray.cli import run_job, train_cv

if __name__ == "__main__":
    run_job(train_cv)
