"""The service on Ray Serve: ``import_path: skinray.cluster.serve:app``."""

from skinray.cluster.serve.app import app as app
