"""A labelled cohort: its manifest, its labels, its folds, and the check of all of it."""
