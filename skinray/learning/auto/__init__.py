"""A run that plans itself and notices what did not work."""
