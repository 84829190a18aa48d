"""What skinray was measured to do, one script for each claim; README.md lists them."""
