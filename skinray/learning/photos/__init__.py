"""Training and scoring of the networks that segment skin in clinical photographs."""
