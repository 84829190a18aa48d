"""Synthetic biopsies with exact labels: skin, nerves, stain, slides and experts' tracings."""
