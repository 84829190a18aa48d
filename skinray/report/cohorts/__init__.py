"""The report of a scored cohort."""
