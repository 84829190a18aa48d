"""Corrections made on the page, kept as labels."""
