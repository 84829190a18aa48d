"""What the service answers: counts, masks and pictures."""
