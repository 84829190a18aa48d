"""The command line: ``skinray VERB``."""

from skinray.cli.main import app, guarded, main, run_job

__all__ = ["app", "guarded", "main", "run_job"]
