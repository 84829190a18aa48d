"""What the service returns for one image: counts, masks and pictures."""
