"""Agreement, tables, overlays and one self-contained page from the records of a run."""
