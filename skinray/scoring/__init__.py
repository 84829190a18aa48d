"""A scored cohort: its images, its ledger, its rows and its tables; no Ray."""
