"""The report of a cross-validation on biopsies."""
