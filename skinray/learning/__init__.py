"""Losses, metrics, the training loop, trials, bundles and prediction: torch, no Ray."""
