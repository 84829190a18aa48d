"""Scoring of a cohort on Ray."""
