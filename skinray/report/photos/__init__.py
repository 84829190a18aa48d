"""The report of a cross-validation on clinical photographs."""
