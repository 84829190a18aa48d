"""Training with torch, without Ray: losses, metrics, the loop, trials, the search, bundles."""
