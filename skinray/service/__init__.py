"""Counts over HTTP: the API, the page, and the engine behind them; without Ray."""
