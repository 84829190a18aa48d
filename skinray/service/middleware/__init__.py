"""What every request passes: tokens, limits, and the request log."""
