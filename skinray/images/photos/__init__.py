"""Clinical photographs and their masks of skin."""
