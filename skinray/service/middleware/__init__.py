"""What every request passes through: tokens, limits and the request log."""
