"""Published weights: download, import, conversion and loading."""
