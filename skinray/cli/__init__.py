"""The command line: ``skinray VERB``."""

from skinray.cli.main import app as app
from skinray.cli.main import guarded as guarded
from skinray.cli.main import main as main
from skinray.cli.main import run_job as run_job
