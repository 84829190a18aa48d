"""Training on Ray: Data feeds, Train trains, Tune searches."""
