"""Corrections made on the page, stored as labels for training."""
