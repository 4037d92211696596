"""The batch lane, searched: the model, and what it is given."""
