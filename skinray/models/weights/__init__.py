"""Weights made elsewhere: where they come from, how they are read and converted."""
