"""Functions of one's own, each the handler of a kind."""
