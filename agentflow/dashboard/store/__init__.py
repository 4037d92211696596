"""The fold that all viewers share: items of the feed go in, rows and sums are read."""
