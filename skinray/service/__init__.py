"""Counts over HTTP: the OpenAPI service, the page, and the engine behind them; no Ray here."""
